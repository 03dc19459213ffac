"""Images and animations by Pillow: png, jpeg, webp, gif."""

import re
import struct
import warnings
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from io import BufferedReader

import numpy as np
from PIL import Image, ImageOps

from kinoform.media.diagnostics import UnsupportedFile, Warn
from kinoform.media.limits import MAX_FRAMES, MAX_IMAGE_PIXELS
from kinoform.media.profiles import CODES, png_codes, srgb
from kinoform.media.resample import FrameSource, TimedFrame
from kinoform.media.sniff import GIF, JPEG, PNG, WEBP, FileFormat

UNTIMED = 100
"""Milliseconds that a frame without a duration stays, as browsers show it."""

DEEP = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow's modes for 16 bits of grey, which its own conversion would cut off at 255."""

EXTENSION, FRAME, END = 0x21, 0x2C, 0x3B
"""Bytes that a block of a gif begins with."""

COLOUR_TABLE = 0x80
"""The bit that announces a colour table, whose size is in the lowest three."""


def open_image(file: BufferedReader, kind: FileFormat, length: int, warn: Warn) -> FrameSource:
    """Open an image or animation of `length` bytes. Raises UnsupportedFile, or whatever Pillow raises."""
    if kind is GIF:
        _check_gif(file)
    if kind is WEBP:
        _check_webp(file, length)
    codes = png_codes(file) if kind is PNG else None
    file.seek(0)
    image = _open(file, kind)
    if codes is not None:
        image.info[CODES] = codes
    # What follows in a jpeg is a preview, a depth or a gain map; a png may have an image for who shows no animation.
    first = int(getattr(image, "default_image", False))
    count = 1 if kind is JPEG else getattr(image, "n_frames", 1) - first
    return FrameSource(
        size=(image.height, image.width),
        frames=_frames(image, first, count, warn),
        tick=Fraction(1, 100 if kind is GIF else 1000) if count > 1 else Fraction(0),
        count=count,
    )


def pixels_of(image: Image.Image, warn: Warn) -> np.ndarray:
    """Convert an image of any mode, upright and in sRGB, to RGB, or to RGBA where it is transparent."""
    upright = _upright(image, warn)
    if upright.mode in DEEP:
        warn("has 16 bits per pixel; they are converted to 8")
        grey = np.rint(np.asarray(upright).astype(np.float32) / 257).clip(0, 255).astype(np.uint8)
        return np.asarray(srgb(Image.fromarray(grey), image, warn))
    if not upright.has_transparency_data:
        return np.asarray(srgb(upright, image, warn))
    whole = upright.convert("RGBA")
    colours = whole.convert("L") if upright.mode in ("LA", "La") else whole.convert("RGB")
    return np.dstack([np.asarray(srgb(colours, image, warn)), np.asarray(whole.getchannel("A"))])


def _upright(image: Image.Image, warn: Warn) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, struct.error):  # whatever Pillow raises over tags
        warn("has damaged Exif data, so it is not turned")
        return image


def _check_gif(file: BufferedReader) -> None:
    """Count frames without decoding any, and find the end: Pillow takes a cut file for a shorter one."""
    flags = file.read(13)[10]
    file.seek(_table(flags), 1)
    frames = 0
    while (block := file.read(1)[0]) != END:
        if block == EXTENSION:
            file.seek(1, 1)
        elif block == FRAME:
            flags = file.read(9)[8]
            file.seek(_table(flags) + 1, 1)
            frames += 1
        else:
            raise ValueError(f"block {block}")
        while size := file.read(1)[0]:
            file.seek(size, 1)
        if frames > MAX_FRAMES:
            raise UnsupportedFile(
                f"has more than {MAX_FRAMES} frames, the most that are read; cut it first", code="media_too_large"
            )


def _table(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & COLOUR_TABLE else 0


def _check_webp(file: BufferedReader, length: int) -> None:
    file.seek(4)
    if int.from_bytes(file.read(4), "little") + 8 > length:
        raise EOFError


def _open(file: BufferedReader, kind: FileFormat) -> Image.Image:
    limit = f"pixels; at most {MAX_IMAGE_PIXELS} are read; make it smaller"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=[kind.pillow])
    except Image.DecompressionBombError as error:  # from twice the size on that only warns
        pixels = re.search(r"\d+", str(error))
        raise UnsupportedFile(
            f"has {pixels.group() if pixels else 'too many'} {limit}", code="media_too_large"
        ) from error
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise UnsupportedFile(f"has {image.width}x{image.height} {limit}", code="media_too_large")
    return image


def _frames(image: Image.Image, first: int, count: int, warn: Warn) -> Iterator[TimedFrame]:
    time = Fraction(0)
    for index in range(first, first + count):
        image.seek(index)
        image.load()
        end = time + Fraction(_milliseconds(image), 1000)
        # A copy, since the next frame is painted over this one.
        still = image.copy() if count > 1 else image
        yield TimedFrame(pixels=partial(pixels_of, still, warn), time=time, end=end)
        time = end


def _milliseconds(image: Image.Image) -> int:
    return int(image.info.get("duration", 0)) or UNTIMED
