"""Frames of a video as 8-bit RGB with the colours of BT.709, whatever the film was made for."""

from functools import cache

import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from jaxtyping import Float32, UInt8, UInt16

from kinoform.media.remarks import Say

MATRICES = {1, 4, 5, 6, 7, 9, 10}
"""Ways from luma and chroma to RGB that swscale knows (ISO/IEC 23091-2)."""

LARGEST_SD = (576, 1024)
"""Height and width up to which a film that names no matrix is taken for BT.601, and else for BT.709, as players do."""

PEAK, WHITE = 1000.0, 203.0
"""cd/m2 of the brightest highlight that is kept, and of white in HDR (BT.2408), which becomes white in SDR."""

DISPLAY_GAMMA = 2.4
"""The exponent of an SDR display (BT.1886)."""

TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)
"""Linear light from the primaries of BT.2020 to those of BT.709 (BT.2087)."""

LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
"""Shares of the primaries of BT.2020 in luminance."""

CODES = 2**16


def rgb(frame: VideoFrame, say: Say) -> UInt8[np.ndarray, "h w _"]:
    """RGB, or RGBA of a film with transparency. Says what is converted: more than 8 bits, HDR, wide colours."""
    parts = frame.format.components
    transparent = any(part.is_alpha for part in parts)
    hdr = frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
    if hdr or frame.color_primaries == ColorPrimaries.BT2020:
        say("is HDR; it is converted to 8-bit BT.709" if hdr else "has the wide colours of BT.2020; they become BT.709")
        wide = _reformatted(frame, "rgba64le" if transparent else "rgb48le")
        narrow = _narrowed(wide[..., :3], frame.color_trc)
        return np.concatenate([narrow, (wide[..., 3:] >> 8).astype(np.uint8)], axis=2) if transparent else narrow
    if max(part.bits for part in parts) > 8:
        say(f"has {parts[0].bits} bits per colour; they are converted to 8")
    return _reformatted(frame, "rgba" if transparent else "rgb24")


def _reformatted(frame: VideoFrame, pixels: str) -> np.ndarray:
    if frame.format.is_rgb:
        return frame.reformat(format=pixels, threads=1).to_ndarray()
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    large = frame.height > LARGEST_SD[0] or frame.width > LARGEST_SD[1]
    guess = Colorspace.ITU709 if large else Colorspace.ITU601
    converted = frame.reformat(
        format=pixels,
        src_colorspace=frame.colorspace if frame.colorspace in MATRICES else guess,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    return converted.to_ndarray()


def _narrowed(wide: UInt16[np.ndarray, "h w 3"], transfer: int) -> UInt8[np.ndarray, "h w 3"]:
    light = _light(transfer)[wide]
    if transfer == ColorTrc.ARIB_STD_B67:
        # HLG says what the camera saw; a display of 1000 cd/m2 adds this contrast (BT.2100, table 5).
        light *= PEAK * np.maximum(light @ LUMINANCE, 1e-6)[..., None] ** 0.2
    light = (light @ TO_709.T).clip(0, PEAK)
    # A square root spreads the dark half of the range, where eyes see steps, over most of the table.
    return _shown(transfer)[np.rint(np.sqrt(light / PEAK) * (CODES - 1)).astype(np.uint16)]


@cache
def _light(transfer: int) -> Float32[np.ndarray, " n"]:
    """Linear light for each code: cd/m2, or for HLG the share of the brightest in the scene."""
    code = np.linspace(0, 1, CODES)
    if transfer == ColorTrc.SMPTE2084:
        return _pq_light(code).astype(np.float32)
    if transfer == ColorTrc.ARIB_STD_B67:
        a, b, c = 0.17883277, 0.28466892, 0.55991073  # BT.2100, table 5
        return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)
    return (WHITE * code**DISPLAY_GAMMA).astype(np.float32)


@cache
def _shown(transfer: int) -> UInt8[np.ndarray, " n"]:
    """The SDR code for each square root of light from 0 to PEAK."""
    light = PEAK * np.linspace(0, 1, CODES) ** 2
    if transfer in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
        light = _pq_light(_rolled_off(_pq_code(light)))
    return np.rint(255 * (light / WHITE).clip(0, 1) ** (1 / DISPLAY_GAMMA)).astype(np.uint8)


def _rolled_off(code: np.ndarray) -> np.ndarray:
    """PEAK becomes WHITE, dark and middle tones stay, and a Hermite spline joins them (BT.2390, section 5.4.1)."""
    peak, white = _pq_code(np.array([PEAK, WHITE]))
    share, target = code / peak, white / peak
    knee = 1.5 * target - 0.5
    t = ((share - knee) / (1 - knee)).clip(0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * target
    return peak * np.where(share < knee, share, spline)


def _pq_light(code: np.ndarray) -> np.ndarray:
    """cd/m2 of a code in 0..1 (SMPTE ST 2084)."""
    root = code ** (32 / 2523)
    return 10_000 * (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)


def _pq_code(light: np.ndarray) -> np.ndarray:
    """The inverse of `_pq_light`."""
    root = (light / 10_000) ** (2610 / 16384)
    return ((107 / 128 + 2413 / 128 * root) / (1 + 2392 / 128 * root)) ** (2523 / 32)
