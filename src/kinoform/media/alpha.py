"""Pixels without transparency: over white."""

import numpy as np
from jaxtyping import UInt8

from kinoform.media.diagnostics import Warn


def flat(pixels: UInt8[np.ndarray, "h w _"], warn: Warn) -> UInt8[np.ndarray, "h w 3"]:
    """Return RGB of RGB or RGBA pixels, the latter over white; warns if that changes anything."""
    colours = pixels[..., :3]
    if pixels.shape[2] == 3 or pixels[..., 3].min() == 255:
        return colours
    warn("is transparent in places; white is put behind it")
    return over(colours, pixels[..., 3], 255)


def over(
    colours: UInt8[np.ndarray, "h w 3"], alpha: UInt8[np.ndarray, "h w"], ground: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Composite the colours over a grey ground, rounded."""
    share = alpha[..., None].astype(np.uint16)
    # At most 255 * 255, which 16 bits hold; the half of 255 rounds.
    return ((colours * share + ground * (255 - share) + 127) // 255).astype(np.uint8)
