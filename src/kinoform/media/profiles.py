"""Colours of images in sRGB, whichever they were saved in: ICC profiles, chunks of png, Exif of cameras."""

import io
import struct
from collections.abc import Sequence
from io import BufferedReader
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from kinoform.media.diagnostics import Warn
from kinoform.media.light import ADOBE, ADOBE_EXPONENT, BT709, HLG, NAMES, PQ, PRIMARIES, Primaries, in_srgb, narrowed

CODES = "cicp"
"""The key under which an image's information holds what `png_codes` found."""

MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's modes for the kinds of colours that profiles describe."""

SAME = 1
"""Levels by which a profile of sRGB may move a colour; it is not applied then, so that no pixel changes."""

NEAR = 0.002
"""Differences of chromaticities and exponents that are roundings."""

INTEROPERABILITY, INDEX, ADOBE_RGB = 0xA005, 1, "R03"
"""Places where Exif names the colours of a photograph (DCF 2.0), and the name of Adobe RGB."""

LONGEST_NAME = 40
MAX_CHUNKS = 1000


def srgb(image: Image.Image, about: Image.Image, warn: Warn) -> Image.Image:
    """Convert an image to RGB in sRGB, without transparency; `about` has its information. Warns of conversions."""
    info = about.info
    if (codes := info.get(CODES)) is not None:
        return _by_codes(image.convert("RGB"), codes, warn)
    if info.get("icc_profile"):
        return _by_profile(image, info["icc_profile"], warn)
    if "srgb" not in info and ("gamma" in info or "chromaticity" in info):
        return _by_numbers(image.convert("RGB"), info, warn)
    if _is_adobe_rgb(about):
        return _converted(image.convert("RGB"), ADOBE, ADOBE_EXPONENT, "Adobe RGB", warn)
    return image.convert("RGB")


def png_codes(file: BufferedReader) -> tuple[int, int] | None:
    """Read primaries and transfer function in a png's cICP chunk, which Pillow does not; None if there is none."""
    file.seek(8)
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return None
        (length,) = struct.unpack(">I", head[:4])
        if head[4:] == b"cICP":
            content = file.read(4)
            return (content[0], content[1]) if len(content) == 4 else None
        file.seek(length + 4, 1)
    return None


def _by_codes(image: Image.Image, codes: Sequence[int], warn: Warn) -> Image.Image:
    number, transfer = codes
    primaries = PRIMARIES.get(number, BT709)
    if transfer not in (PQ, HLG):
        return image if primaries is BT709 else _converted(image, primaries, None, NAMES[number], warn)
    warn("is HDR; it is converted to sRGB")
    return Image.fromarray(narrowed(np.asarray(image).astype(np.uint16) * 257, primaries, transfer))


def _by_profile(image: Image.Image, content: bytes, warn: Warn) -> Image.Image:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        core: Any = profile.profile
        mode = MODES.get(core.xcolor_space.strip())
        if mode is None or (mode == "CMYK") != (image.mode == "CMYK") or (mode == "L" and not _is_grey(image)):
            warn("has a colour profile for another kind of pixels, which is not applied")
            return image.convert("RGB")
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode != "CMYK" and _changes_nothing(transform, mode):
            return image.convert("RGB")
        converted = ImageCms.applyTransform(image.convert(mode), transform)
        assert converted is not None
        warn(f"has the colours of {_name(profile)}; they become sRGB")
        return converted
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        warn("has a damaged colour profile, which is not applied")
        return image.convert("RGB")


def _is_adobe_rgb(image: Image.Image) -> bool:
    try:
        return image.getexif().get_ifd(INTEROPERABILITY).get(INDEX) == ADOBE_RGB
    except (SyntaxError, ValueError, struct.error):  # damaged, which is told where images are turned
        return False


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", "La")


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    levels = np.linspace(0, 255, 256 if mode == "L" else 9).astype(np.uint8)
    probe = levels[None] if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    before = Image.fromarray(probe)
    after = ImageCms.applyTransform(before, transform)
    assert after is not None
    difference = np.asarray(after).astype(int) - np.asarray(before.convert("RGB"))
    return int(np.abs(difference).max()) <= SAME


def _name(profile: ImageCms.ImageCmsProfile) -> str:
    try:
        name = ImageCms.getProfileDescription(profile).strip()[:LONGEST_NAME]
    except ImageCms.PyCMSError:
        name = ""
    return "".join(letter for letter in name if letter.isprintable()) or "a profile of its own"


def _by_numbers(image: Image.Image, info: dict[Any, Any], warn: Warn) -> Image.Image:
    """Convert by the exponent and the chromaticities that a png states; one without the other is that of sRGB."""
    gamma, wide = info.get("gamma", 1 / 2.2), BT709
    if "chromaticity" in info:
        x = info["chromaticity"]
        wide = Primaries((x[2], x[3]), (x[4], x[5]), (x[6], x[7]), (x[0], x[1]))
    exponent = None if abs(gamma - 1 / 2.2) < NEAR else 1 / gamma if gamma else np.inf
    if np.abs(np.subtract(wide, BT709)).max() < NEAR:
        if exponent is None:
            return image
        wide = BT709
    return _converted(image, wide, exponent, "its own display", warn)


def _converted(image: Image.Image, wide: Primaries, exponent: float | None, name: str, warn: Warn) -> Image.Image:
    try:
        with np.errstate(all="raise", under="ignore"):
            pixels = in_srgb(np.asarray(image), wide, exponent)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError):
        warn("has a damaged colour profile, which is not applied")
        return image
    warn(f"has the colours of {name}; they become sRGB")
    return Image.fromarray(pixels)
