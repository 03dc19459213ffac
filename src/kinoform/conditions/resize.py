"""Images and the video they belong to: the size they ask for, the part of them that is kept, their pixels in it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinoform.conditions.protocols import Units
from kinoform.errors import UsageError
from kinoform.media.types import InputImage
from kinoform.models.codec import signed

Size = tuple[int, int]
"""(height, width) in pixels."""

NOISE = 8
"""Difference below which the values of one colour lie, where a camera or a codec was at work."""

FLOATS = 8
"""Bytes held for a byte of an image while it is resized: as float32, and once more in another order."""


def size_of_area(proportions: Size, area: int, units: Units) -> Size:
    """The size of about `area` pixels, and not more, that has these proportions; a side is 0 where nothing fits.

    Rounded down as the official code rounds, in floating point: an image of 480x832 in its own area comes
    out as 464x832, since sqrt(480 * 832 * 480 / 832) is a little less than 480 there.
    """
    height, width = proportions
    aspect = height / width
    sides = math.sqrt(area * aspect), math.sqrt(area / aspect)
    tall, wide = (
        int(side // stride // part) * part * stride
        for side, stride, part in zip(sides, units.stride[1:], units.patch[1:], strict=True)
    )
    return tall, wide


def kept_part(size: Size, proportions: Size) -> tuple[slice, slice]:
    """Rows and columns of the largest part, in the middle of an image, that has other proportions."""
    (height, width), (tall, wide) = size, proportions
    rows, columns = height, width
    if height * wide > width * tall:
        rows = max(1, round(width * tall / wide))
    else:
        columns = max(1, round(height * wide / tall))
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def check_shows(references: Iterable[InputImage]) -> None:
    """Raise UsageError for an image of one colour, since nothing in it can appear."""
    for image in references:
        if np.ptp(image.pixels, axis=(0, 1)).max() < NOISE:
            raise UsageError(
                f"{image.name} is of one colour and shows nothing; give an image of what shall appear",
                code="image_uniform",
            )


def signal(frames: UInt8[np.ndarray, "n height width 3"]) -> Float[Tensor, "n 3 height width"]:
    """Pixels in [-1, 1], float32."""
    return rearrange(signed(torch.as_tensor(np.array(frames, order="C"))), "n height width c -> n c height width")


def fitted(
    frames: UInt8[np.ndarray, "n height width 3"], size: Size, *, proportions: Size
) -> Float[Tensor, "n 3 tall wide"]:
    """Pixels in a video's size, around [-1, 1]: what does not have `proportions` is cropped, the rest stretched.

    Bicubic without antialiasing on the CPU, as the official code does; it may overshoot, and is not clamped.
    """
    rows, columns = kept_part(frames.shape[1:3], proportions)
    return F.interpolate(signal(frames[:, rows, columns]), size=size, mode="bicubic", align_corners=False)
