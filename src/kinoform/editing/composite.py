"""Lays new pixels over the video, which keeps its own bytes wherever nothing may change."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

Frame = UInt8[np.ndarray, "height width 3"]


def composite(
    source: Frame, made: Float32[np.ndarray, "height width 3"], alpha: Float32[np.ndarray, "height width"]
) -> Frame:
    """(1 - alpha) source + alpha made, rounded; where alpha is 0 the source is copied, not computed."""
    result, changes = source.copy(), alpha > 0
    weight = alpha[changes][:, None]
    result[changes] = _rounded((1 - weight) * source[changes] + weight * made[changes])
    return result


def crossfaded(earlier: Frame, later: Frame, weight: float) -> Frame:
    """(1 - weight) earlier + weight later, rounded; where both are equal so is the result."""
    if weight == 1:
        return later
    result, differs = earlier.copy(), (earlier != later).any(axis=-1)
    result[differs] = _rounded((1 - weight) * earlier[differs] + weight * later[differs])
    return result


def _rounded(values: np.ndarray) -> UInt8[np.ndarray, "n 3"]:
    return np.rint(values.clip(0, 255)).astype(np.uint8)
