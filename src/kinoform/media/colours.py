"""Frames of a video as 8-bit RGB with the colours of BT.709, whatever the video was made for."""

import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, Interpolation
from jaxtyping import UInt8

from kinoform.media.light import BT709, HLG, NAMES, PQ, PRIMARIES, narrowed
from kinoform.media.remarks import Say

MATRICES = {1, 4, 5, 6, 7, 9, 10}
"""Ways from luma and chroma to RGB that swscale knows (ISO/IEC 23091-2)."""

LARGEST_SD = (576, 1024)
"""Height and width up to which a video that names no matrix is taken for BT.601, and else for BT.709, as players do."""


def rgb(frame: VideoFrame, size: tuple[int, int], say: Say) -> UInt8[np.ndarray, "h w _"]:
    """RGB in this height and width, or RGBA of a video with transparency.

    Says what is converted: more than 8 bits, HDR, other primaries.
    """
    parts = frame.format.components
    transparent = any(part.is_alpha for part in parts)
    hdr, primaries = frame.color_trc in (PQ, HLG), frame.color_primaries
    if hdr and primaries not in (*PRIMARIES, ColorPrimaries.BT709):
        primaries = ColorPrimaries.BT2020
    if hdr or primaries in PRIMARIES:
        name = NAMES.get(primaries, "BT.709")
        say("is HDR; it is converted to 8-bit BT.709" if hdr else f"has the colours of {name}; they become BT.709")
        wide = _reformatted(frame, size, "rgba64le" if transparent else "rgb48le")
        narrow = narrowed(wide[..., :3], PRIMARIES.get(primaries, BT709), frame.color_trc)
        return np.concatenate([narrow, (wide[..., 3:] >> 8).astype(np.uint8)], axis=2) if transparent else narrow
    if max(part.bits for part in parts) > 8:
        say(f"has {parts[0].bits} bits per colour; they are converted to 8")
    return _reformatted(frame, size, "rgba" if transparent else "rgb24")


def _reformatted(frame: VideoFrame, size: tuple[int, int], pixels: str) -> np.ndarray:
    height, width = size
    resized = size != (frame.height, frame.width)
    how = {"width": width, "height": height, "interpolation": Interpolation.BICUBIC} if resized else {}
    if frame.format.is_rgb:
        return frame.reformat(format=pixels, threads=1, **how).to_ndarray()
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    large = frame.height > LARGEST_SD[0] or frame.width > LARGEST_SD[1]
    guess = Colorspace.ITU709 if large else Colorspace.ITU601
    converted = frame.reformat(
        format=pixels,
        src_colorspace=frame.colorspace if frame.colorspace in MATRICES else guess,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,
        **how,
    )
    return converted.to_ndarray()
