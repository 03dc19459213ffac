"""Pixels as they are shown: turned and mirrored by a display matrix, and made square."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from kinoform.media.diagnostics import Warn

NO_TURN = np.array([1, 0, 0, 0, 1, 0, 0, 0, 1], np.int32)

SLANTED = 0.01
"""The share of a matrix off the quarters from which on it is told of: rounding is below, half a degree above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stance:
    """The way frames lie in their file: in height and width `coded`, to be turned by a, b, c and d of `matrix`."""

    coded: tuple[int, int]
    matrix: tuple[int, int, int, int]

    def shown(
        self, values: UInt8[np.ndarray, "rows columns"], size: tuple[int, int]
    ) -> UInt8[np.ndarray, "height width"]:
        """Stretch and turn what lies like the frames to the `size` that they are shown in."""
        a, b, c, d = self.matrix
        standing = turned(values[..., None], np.array([a, b, 0, c, d, 0, 0, 0, 1]), lambda note: None)[..., 0]
        if standing.shape == size:
            return standing
        return np.asarray(
            Image.fromarray(np.ascontiguousarray(standing)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        )


def turned(
    pixels: UInt8[np.ndarray, "rows columns c"], matrix: Int[np.ndarray, "9"], warn: Warn
) -> UInt8[np.ndarray, "height width c"]:
    """Turn by quarters and mirror, so that column x and row y are shown at (a x + c y, b x + d y).

    `matrix` is a, b, 0, c, d, 0 and what does not turn (ISO/IEC 14496-12, 8.3.2).
    """
    a, b, _, c, d = (int(value) for value in matrix[:5])
    upright = abs(a) + abs(d) >= abs(b) + abs(c)
    if upright:
        across, down, rest = a, d, abs(b) + abs(c)
    else:
        across, down, rest = c, b, abs(a) + abs(d)
        pixels = pixels.swapaxes(0, 1)
    if rest > SLANTED * (abs(across) + abs(down)):
        warn("is to be shown at a slant; it is turned by whole quarters only")
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def squared(size: tuple[int, int], shape: Fraction | None) -> tuple[int, int]:
    """Return height and width in square pixels, before any turn; those of the frame are `shape` times as wide as high.

    One side grows, as in browsers, so that nothing is lost; to an even number, since h264 takes no other.
    """
    height, width = size
    if not shape or shape == 1:
        return size
    if shape > 1:
        return height, 2 * round(width * shape / 2)
    return 2 * round(height / shape / 2), width
