"""Visibility of the boundary of an edit: differences of colour across it, beyond those of the video."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

WHITE_POINT = np.array([0.95047, 1.0, 1.08883])
"""D65, with Y = 1."""

TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear light from the primaries of sRGB and BT.709 (IEC 61966-2-1)."""

LINEAR_BELOW = (6 / 29) ** 3
"""Light at which CIE Lab goes over from a cube root to a straight line."""

Frame = UInt8[np.ndarray, "height width 3"]
Frames = UInt8[np.ndarray, "f height width 3"]
Indices = Int64[np.ndarray, " n"]
Line = Float64[np.ndarray, " n"]


def boundary_differences(
    source: Frames,
    result: Frames,
    alpha: Float32[np.ndarray, "f height width"],
    *,
    feather: float,
    step: Callable[[], None] = lambda: None,
) -> list[float | None]:
    """Return the mean of `pair_differences` in each frame, None without a boundary; `step` is called for each."""
    means = list[float | None]()
    for frames in zip(source, result, alpha, strict=True):
        step()
        differences = pair_differences(*frames, feather=feather)
        means.append(float(differences.mean()) if differences.size else None)
    return means


def pair_differences(
    source: Frame, result: Frame, alpha: Float32[np.ndarray, "height width"], *, feather: float
) -> Float64[np.ndarray, " n"]:
    """Return max(0, dE(result at p, source at q) - dE(source at p, source at q)) for each pair across the boundary.

    A pair is a pixel p of alpha 1 beside one of less, and the first pixel q of alpha 0 in that direction (left, right,
    up or down) within twice the feather, so that the feathered edge lies between them. dE is CIEDE2000; a difference
    of 1 is about the least that is seen.
    """
    reach = 2 * (math.floor(feather) + 1)
    pairs = []
    for turn in range(4):
        before, after, edge = (np.rot90(values, turn) for values in (source, result, alpha))
        row, inner, outer = _across(edge, reach)
        pairs.append((before[row, inner], after[row, inner], before[row, outer]))
    inside, changed, outside = (np.concatenate(pixels) for pixels in zip(*pairs, strict=True))
    return np.maximum(delta_e(changed, outside) - delta_e(inside, outside), 0)


def _across(alpha: Float32[np.ndarray, "height width"], reach: int) -> tuple[Indices, Indices, Indices]:
    """Return rows and columns of the last pixels of alpha 1 before less, to the right; columns of the next of 0."""
    row, inner = np.nonzero((alpha[:, :-1] == 1) & (alpha[:, 1:] < 1))
    outer = np.full_like(inner, -1)
    for step in range(1, reach + 1):
        beyond = np.minimum(inner + step, alpha.shape[1] - 1)
        outer = np.where((outer < 0) & (alpha[row, beyond] == 0), beyond, outer)
    paired = outer >= 0
    return row[paired], inner[paired], outer[paired]


def delta_e(one: UInt8[np.ndarray, "n 3"], other: UInt8[np.ndarray, "n 3"]) -> Float64[np.ndarray, " n"]:
    """Return CIEDE2000 of sRGB colours."""
    return ciede2000(lab(one), lab(other))


def lab(pixels: UInt8[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    """Return CIE Lab of sRGB colours under D65: L in 0 to 100."""
    code = pixels / 255
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    share = light @ TO_XYZ.T / WHITE_POINT
    bent = np.where(share > LINEAR_BELOW, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(bent, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(one: Float64[np.ndarray, "n 3"], other: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, " n"]:
    """Return the difference of two sets of CIE Lab colours (ISO/CIE 11664-6; Sharma, Wu & Dalal 2005), all k = 1."""
    grey = 1.5 - 0.5 * _saturation((np.hypot(*one[:, 1:].T) + np.hypot(*other[:, 1:].T)) / 2)
    (light_1, chroma_1, hue_1), (light_2, chroma_2, hue_2) = (_polar(colours, grey) for colours in (one, other))
    coloured = chroma_1 * chroma_2 > 0
    turn = np.where(coloured, (hue_2 - hue_1 + 180) % 360 - 180, 0)
    light, chroma = (light_1 + light_2) / 2, (chroma_1 + chroma_2) / 2
    hue = np.where(coloured, hue_1 + turn / 2, hue_1 + hue_2)
    hues = 2 * np.sqrt(chroma_1 * chroma_2) * _sin(turn / 2)
    weight = 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.20 * _cos(4 * hue - 63)
    lights = (light_2 - light_1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    chromas = (chroma_2 - chroma_1) / (1 + 0.045 * chroma)
    hues = hues / (1 + 0.015 * chroma * weight)
    blue = 60 * np.exp(-(((hue % 360 - 275) / 25) ** 2))
    rotation = -2 * _saturation(chroma) * _sin(blue)
    return np.sqrt(lights**2 + chromas**2 + hues**2 + rotation * chromas * hues)


def _polar(colours: Float64[np.ndarray, "n 3"], grey: Line) -> tuple[Line, Line, Line]:
    """Return lightness, chroma, and hue in degrees, with the axis from green to red stretched at low chroma."""
    light, red, yellow = colours.T
    return light, np.hypot(grey * red, yellow), np.rad2deg(np.arctan2(yellow, grey * red)) % 360


def _saturation(chroma: Line) -> Line:
    return np.sqrt(chroma**7 / (chroma**7 + 25.0**7))


def _sin(degrees: Line) -> Line:
    return np.sin(np.deg2rad(degrees))


def _cos(degrees: Line) -> Line:
    return np.cos(np.deg2rad(degrees))
