"""Colour conversion: images and frames made for other displays, as BT.709 and sRGB show them.

Codes of primaries and transfer functions are those of ISO/IEC 23091-2 (ITU-T H.273).
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt16


class Primaries(NamedTuple):
    """CIE x and y of the red, green and blue of a display, and of its white."""

    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]
    white: tuple[float, float]


D65, C, DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)
BT709 = Primaries((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65)
ADOBE = Primaries((0.640, 0.330), (0.210, 0.710), (0.150, 0.060), D65)
ADOBE_EXPONENT = 563 / 256
PRIMARIES = {
    4: Primaries((0.670, 0.330), (0.210, 0.710), (0.140, 0.080), C),
    5: Primaries((0.640, 0.330), (0.290, 0.600), (0.150, 0.060), D65),
    6: Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    7: Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    8: Primaries((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), C),
    9: Primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    11: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), DCI),
    12: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
    22: Primaries((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), D65),
}
"""Primaries by code: all but those of BT.709."""

NAMES = {
    4: "NTSC",
    5: "PAL",
    6: "NTSC",
    7: "SMPTE 240M",
    8: "video",
    9: "BT.2020",
    11: "DCI-P3",
    12: "Display P3",
    22: "EBU",
}
"""Names by which people know them."""

PQ, HLG = 16, 18
"""Transfer functions of HDR."""

PEAK, WHITE = 1000.0, 203.0
"""cd/m2 of the brightest highlight that is kept, and of white in HDR (BT.2408), which becomes white in SDR."""

DISPLAY_GAMMA = 2.4
"""The exponent of an SDR display (BT.1886)."""

LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
"""Shares of the primaries of BT.2020 in luminance."""

BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""A matrix from CIE XYZ to the cone responses in which an eye gets used to another white."""

CODES = 2**16
ROWS = 128
"""Rows that are converted at once, so that photographs take little memory."""


def narrowed(wide: UInt16[np.ndarray, "h w 3"], primaries: Primaries, transfer: int) -> UInt8[np.ndarray, "h w 3"]:
    """Convert to BT.709 16-bit RGB codes of a video with other primaries, or of HDR, whose highlights roll off."""
    light, shown, matrix = _light(transfer), _shown(transfer in (PQ, HLG)), to_709(primaries)
    parts = [_narrowed(wide[row : row + ROWS], light, shown, matrix, transfer) for row in range(0, len(wide), ROWS)]
    return np.concatenate(parts)


def in_srgb(
    pixels: UInt8[np.ndarray, "h w 3"], primaries: Primaries, exponent: float | None
) -> UInt8[np.ndarray, "h w 3"]:
    """Convert to sRGB the RGB with other primaries, whose light is code ** `exponent`, None for that of sRGB itself."""
    code = np.linspace(0, 1, 256)
    light = (_srgb_light(code) if exponent is None else code**exponent).astype(np.float32)
    matrix, shown = to_709(primaries), _srgb_shown()
    parts = []
    for row in range(0, len(pixels), ROWS):
        linear = (light[pixels[row : row + ROWS]] @ matrix.T).clip(0, 1)
        parts.append(shown[np.rint(np.sqrt(linear) * (CODES - 1)).astype(np.uint16)])
    return np.concatenate(parts)


@cache
def to_709(primaries: Primaries) -> Float32[np.ndarray, "3 3"]:
    """Return the matrix of linear light from these primaries to those of BT.709; white stays white."""
    source, target = _to_xyz(primaries), _to_xyz(BT709)
    cones = BRADFORD @ source.sum(axis=1), BRADFORD @ target.sum(axis=1)
    adapted = np.linalg.inv(BRADFORD) @ np.diag(cones[1] / cones[0]) @ BRADFORD
    return (np.linalg.inv(target) @ adapted @ source).astype(np.float32)


def _to_xyz(primaries: Primaries) -> Float[np.ndarray, "3 3"]:
    """Return the CIE XYZ of linear RGB, with a luminance of 1 for white."""
    red, green, blue, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in primaries)
    columns = np.stack([red, green, blue], axis=1)
    return columns * np.linalg.solve(columns, white)


def _narrowed(
    wide: np.ndarray, light: np.ndarray, shown: np.ndarray, matrix: np.ndarray, transfer: int
) -> UInt8[np.ndarray, "h w 3"]:
    linear = light[wide]
    if transfer == HLG:
        # HLG says what the camera saw; a display of 1000 cd/m2 adds this contrast (BT.2100, table 5).
        linear *= PEAK * np.maximum(linear @ LUMINANCE, 1e-6)[..., None] ** 0.2
    linear = (linear @ matrix.T).clip(0, PEAK)
    # A square root spreads the dark half of the range, where eyes see steps, over most of the table.
    return shown[np.rint(np.sqrt(linear / PEAK) * (CODES - 1)).astype(np.uint16)]


@cache
def _light(transfer: int) -> Float32[np.ndarray, " n"]:
    """Return the linear light for each code: cd/m2, or for HLG the share of the brightest in the scene."""
    code = np.linspace(0, 1, CODES)
    if transfer == PQ:
        return _pq_light(code).astype(np.float32)
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073  # BT.2100, table 5
        return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)
    return (WHITE * code**DISPLAY_GAMMA).astype(np.float32)


@cache
def _shown(hdr: bool) -> UInt8[np.ndarray, " n"]:
    """Return the SDR code for each square root of light from 0 to PEAK."""
    light = PEAK * np.linspace(0, 1, CODES) ** 2
    if hdr:
        light = _pq_light(_rolled_off(_pq_code(light)))
    return np.rint(255 * (light / WHITE).clip(0, 1) ** (1 / DISPLAY_GAMMA)).astype(np.uint8)


@cache
def _srgb_shown() -> UInt8[np.ndarray, " n"]:
    """Return the code of sRGB for each square root of light from 0 to 1 (IEC 61966-2-1)."""
    light = np.linspace(0, 1, CODES) ** 2
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * code).astype(np.uint8)


def _srgb_light(code: np.ndarray) -> np.ndarray:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def _rolled_off(code: np.ndarray) -> np.ndarray:
    """Map PEAK to WHITE, keep dark and middle tones, and join them by a Hermite spline (BT.2390, section 5.4.1)."""
    peak, white = _pq_code(np.array([PEAK, WHITE]))
    share, target = code / peak, white / peak
    knee = 1.5 * target - 0.5
    t = ((share - knee) / (1 - knee)).clip(0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * target
    return peak * np.where(share < knee, share, spline)


def _pq_light(code: np.ndarray) -> np.ndarray:
    """Return the cd/m2 of a code in 0..1 (SMPTE ST 2084)."""
    root = code ** (32 / 2523)
    return 10_000 * (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)


def _pq_code(light: np.ndarray) -> np.ndarray:
    """Invert `_pq_light`."""
    root = (light / 10_000) ** (2610 / 16384)
    return ((107 / 128 + 2413 / 128 * root) / (1 + 2392 / 128 * root)) ** (2523 / 32)
