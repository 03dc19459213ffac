"""Pixels without transparency: over white for pictures and films, as what is painted for masks."""

import numpy as np
from jaxtyping import UInt8

from kinoform.media.remarks import Say

LUMA = np.array([19595, 38470, 7471], np.uint32)
"""Shares of red, green and blue in brightness (BT.601), of 65,536, so that a grey keeps its value exactly."""

COLOURED = 32
"""Channels of a pixel further apart than this are a colour; lossy files move those of a grey by a few."""


def flat(pixels: UInt8[np.ndarray, "h w _"], say: Say) -> UInt8[np.ndarray, "h w 3"]:
    """RGB of RGB or RGBA pixels, the latter over white, which is said if it changes anything."""
    colours, alpha = _parted(pixels)
    if alpha is None:
        return colours
    say("is transparent in places; white is put behind it")
    return _behind(colours, alpha, 255)


def mask_values(pixels: UInt8[np.ndarray, "h w _"], say: Say) -> UInt8[np.ndarray, "h w"]:
    """What is painted, as brightness of RGB or RGBA pixels; greys keep their value.

    Where some are transparent and all visible ones have one colour, that colour is a brush: the mask is alpha.
    """
    colours, alpha = _parted(pixels)
    if alpha is not None:
        visible = colours[alpha > 0]
        if (visible == visible[:1]).all():
            say("is painted in one colour on a transparent ground; what is painted changes")
            return alpha
        say("is transparent in places; black is put behind it, so nothing changes there")
        colours = _behind(colours, alpha, 0)
    if int(np.ptp(colours, axis=2).max()) > COLOURED:
        say("has colours; only their brightness counts as a mask")
    return ((colours @ LUMA + 2**15) >> 16).astype(np.uint8)


def _parted(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours, and alpha where any pixel is transparent."""
    transparent = pixels.shape[2] == 4 and bool((pixels[..., 3] < 255).any())
    return pixels[..., :3], pixels[..., 3] if transparent else None


def _behind(colours: np.ndarray, alpha: np.ndarray, ground: int) -> np.ndarray:
    share = alpha[..., None].astype(np.uint16)
    # At most 255 * 255, which 16 bits hold; the half of 255 rounds.
    return ((colours * share + ground * (255 - share) + 127) // 255).astype(np.uint8)
