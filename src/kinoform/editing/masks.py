"""Masks of an edit, grown and feathered, and the blending of new pixels into a video by them."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from kinoform.conditions.clip_checks import WHITE, check_same
from kinoform.media.types import InputVideo, Mask

DARK, BRIGHT = 32, 223
"""Greys between these are neither black nor white, even after a video encoder."""

MAX_GREY = 0.02
"""Largest share of grey pixels without a warning; the smooth edge of a brush is less."""

FAR = 2**20
"""More pixels than any line has."""

Alpha = Float32[np.ndarray, "f height width"]
"""0 where a video stays, 1 where it changes wholly."""

Frame = UInt8[np.ndarray, "height width 3"]


def alpha_of(mask: Mask | None, video: InputVideo, *, grow: int, feather: float) -> Alpha:
    """Return 1 up to `grow` pixels from white, then falling, 0 beyond grow + feather; without a mask 1 everywhere.

    alpha = 1 - (d - grow) / (feather + 1), where d is the distance to the nearest white pixel's centre. A mask of one
    frame applies to all frames, which then share read-only memory.
    Raises UsageError for a mask of another size or length, naming both. Warns of greys and of a mask that leaves
    nothing unchanged.
    """
    shape = len(video.frames), *video.size
    if mask is None:
        return np.broadcast_to(np.float32(1), shape)
    check_same(mask, video)
    _warn_greys(mask)
    alpha = np.stack([soft(frame >= WHITE, grow=grow, feather=feather) for frame in mask.values])
    if alpha.min() > 0:
        grown = f", grown by {grow} and feathered by {feather:g} pixels," if (mask.values < WHITE).any() else ""
        warnings.warn(f"{mask.name}{grown} is white everywhere, so nothing of the video is sure to stay", stacklevel=3)
    return np.broadcast_to(alpha, shape)


def soft(white: Bool[np.ndarray, "height width"], *, grow: int, feather: float) -> Float32[np.ndarray, "height width"]:
    """Return one frame of `alpha_of`."""
    far = distance(white, reach=int(grow + feather) + 1)
    alpha = np.clip(1 - (far - grow) / np.float32(feather + 1), 0, 1)
    return np.where(far > grow + feather, 0, alpha).astype(np.float32)


def distance(white: Bool[np.ndarray, "height width"], *, reach: int) -> Float32[np.ndarray, "height width"]:
    """Return the pixels to the centre of the nearest white one (0 on white), exact up to `reach`, at least that beyond.

    The square is the minimum over rows y' of (y - y')^2 + r(y', x)^2, where r is the distance along the row alone
    (Saito & Toriwaki 1994).
    """
    height, beyond = len(white), np.int32((reach + 1) ** 2)
    along = np.minimum(_along(white, 1), reach + 1) ** 2
    nearest = along.copy()
    for shift in range(1, min(reach, height - 1) + 1):
        square = np.int32(shift**2)
        np.minimum(nearest[shift:], along[:-shift] + square, out=nearest[shift:])
        np.minimum(nearest[:-shift], along[shift:] + square, out=nearest[:-shift])
    return np.sqrt(np.minimum(nearest, beyond).astype(np.float32))


def ring(alpha: Alpha, width: int) -> Bool[np.ndarray, "f height width"]:
    """Return the pixels that stay, within a square of `width` pixels around one that changes."""
    changes = alpha > 0
    near = _along(_along(changes, 2) <= width, 1) <= width
    return near & ~changes


def composite(
    source: Frame, made: Float32[np.ndarray, "height width 3"], alpha: Float32[np.ndarray, "height width"]
) -> Frame:
    """Return (1 - alpha) source + alpha made, rounded; where alpha is 0 the source is copied, not computed."""
    result, changes = source.copy(), alpha > 0
    weight = alpha[changes][:, None]
    result[changes] = _rounded((1 - weight) * source[changes] + weight * made[changes])
    return result


def crossfaded(earlier: Frame, later: Frame, weight: float) -> Frame:
    """Return (1 - weight) earlier + weight later, rounded; pixels equal in both stay."""
    if weight == 1:
        return later
    result, differs = earlier.copy(), (earlier != later).any(axis=-1)
    result[differs] = _rounded((1 - weight) * earlier[differs] + weight * later[differs])
    return result


def _rounded(values: np.ndarray) -> UInt8[np.ndarray, "n 3"]:
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def _along(white: Bool[np.ndarray, "*shape"], axis: int) -> Int32[np.ndarray, "*shape"]:
    """Return the pixels to the nearest white one in the same line; `FAR` or more where there is none."""
    index = np.arange(white.shape[axis], dtype=np.int32)
    index = index.reshape([-1 if dimension == axis else 1 for dimension in range(white.ndim)])
    before = np.maximum.accumulate(np.where(white, index, -FAR), axis=axis)
    after = np.flip(np.minimum.accumulate(np.flip(np.where(white, index, 2 * FAR), axis), axis=axis), axis)
    return np.minimum(index - before, after - index).astype(np.int32)


def _warn_greys(mask: Mask) -> None:
    grey = float(((mask.values > DARK) & (mask.values < BRIGHT)).mean())
    if grey > MAX_GREY:
        warnings.warn(
            f"{mask.name} is grey in {grey:.0%} of its pixels; {WHITE} and above count as white, the rest as black",
            stacklevel=4,
        )
