"""Transparency: images over white, and paint in a mask (brightness, a brush on nothing, or a hole in an image)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8

from kinoform.media.diagnostics import UnsupportedFile, Warn

LUMA = np.array([19595, 38470, 7471], np.uint32)
"""Shares of red, green and blue in brightness (BT.601), of 65,536, so that a grey keeps its value exactly."""

COLOURED = 32
"""Channels of a pixel further apart than this are a colour; lossy files move those of a grey by a few."""

DARK, BRIGHT = 32, 223
"""Greys between these are neither black nor white."""

FEW = 0.1
"""The share of greys that black and white paint may have at its edges."""

FAINT = 16
"""Opacity up to which a pixel of a lossy video is none: coders leave some where there was none."""

NEARLY_ALL = 0.99
"""The share of a brush's pixels that have its colour in a lossy video; edges are left out."""

MANY_COLOURS = 64
"""Colours, 16 levels of a channel taken as one, from which on visible pixels are an image and no paint."""

Meaning: TypeAlias = Callable[[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]], np.ndarray]
"""The values of a mask, of colours and opacity."""


@dataclass(slots=True, kw_only=True)
class Paint:
    """The paint in the frames of one mask, of RGB or RGBA pixels.

    The first frame that is transparent in places decides for all what that means: one colour on a transparent
    ground is a brush, many colours are an image whose hole is what changes, and black and white stand on black.
    `lossy`: a coder may have moved the colours a little.
    """

    lossy: bool = False
    meaning: Meaning | None = None

    def values(self, pixels: UInt8[np.ndarray, "h w _"], warn: Warn) -> UInt8[np.ndarray, "h w"]:
        """Return 255 where something changes. Raises UnsupportedFile where transparency may mean either."""
        colours = pixels[..., :3]
        alpha = pixels[..., 3] if pixels.shape[2] == 4 else np.full(pixels.shape[:2], 255, np.uint8)
        if self.meaning is None:
            if alpha.min() == 255:
                return _brightness(colours, warn)
            if not self._visible(alpha).any():
                return alpha
            self.meaning = self._decided(colours, alpha, warn)
        return self.meaning(colours, alpha)

    def _decided(self, colours: np.ndarray, alpha: np.ndarray, warn: Warn) -> Meaning:
        seen = self._visible(alpha)
        visible = colours[seen]
        if (visible == visible[:1]).all() or (self.lossy and _one_colour(colours[_inside(seen)])):
            warn("is painted in one colour on a transparent ground; what is painted changes")
            return lambda colours, alpha: alpha
        spread = np.ptp(visible, axis=1)
        grey = (visible[:, 0] > DARK) & (visible[:, 0] < BRIGHT)
        if (spread <= COLOURED).all() and grey.mean() < FEW:
            warn("is transparent in places; black is put behind it, so nothing changes there")
            return lambda colours, alpha: _brightness(over(colours, alpha, 0), warn)
        if len(np.unique(visible >> 4, axis=0)) >= MANY_COLOURS:
            warn("is an image with a transparent hole; the hole changes, as in ComfyUI's mask editor")
            return lambda colours, alpha: 255 - alpha
        raise UnsupportedFile(
            "is transparent in places and has several colours or greys elsewhere, so either may be the mask; paint "
            "white what changes and black what stays, without transparency",
            code="mask_ambiguous",
        )

    def _visible(self, alpha: np.ndarray) -> np.ndarray:
        return alpha > (FAINT if self.lossy else 0)


def _one_colour(visible: UInt8[np.ndarray, "n 3"]) -> bool:
    if not len(visible):
        return False
    far = np.abs(visible.astype(np.int16) - np.median(visible, axis=0)).max(axis=1) > COLOURED
    return float(far.mean()) <= 1 - NEARLY_ALL


def _inside(visible: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the area without its edge of two pixels, into which 4:2:0 carries the hidden colour beside it."""
    inside = np.pad(visible, 2)
    for axis in (0, 1):
        inside = np.logical_and.reduce([np.roll(inside, shift, axis) for shift in range(-2, 3)])
    return inside[2:-2, 2:-2]


def _brightness(colours: UInt8[np.ndarray, "h w 3"], warn: Warn) -> UInt8[np.ndarray, "h w"]:
    if int(np.ptp(colours, axis=2).max()) > COLOURED:
        warn("has colours; only their brightness counts as a mask")
    return ((colours @ LUMA + 2**15) >> 16).astype(np.uint8)


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
