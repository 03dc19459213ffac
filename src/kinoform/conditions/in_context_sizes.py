"""Sizes, frames and pixels of images and videos in context, as Bernini-R brings them to size.

Source: bytedance/Bernini, its preprocessing of conditions. They keep their proportions and a size of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from kinoform.conditions.resize import Size, signal

UNIT = 16
"""Pixels along a side of a token."""

TIME = 4
"""Frames of a latent frame, of which the first has one."""


def own_size(size: Size, longest: int, shortest: int = 1) -> Size:
    """The size in context of what has `size`: shrunk to sides of at most `longest`, in whole tokens.

    It is enlarged only where its shorter side would be below `shortest`. Sides are stretched by up to half a token;
    halves are rounded to even numbers.
    """
    sides = _scaled(size, max(min(longest / max(size), 1.0), shortest / min(size)))
    return _scaled(sides, longest / max(sides)) if max(sides) > longest else sides


def picked_frames(there: int, fps: float | None, *, wanted: float, most: int) -> list[int]:
    """Numbers of the frames to take of a video of `there` frames at `fps`, None for the rate that is `wanted`.

    They are spread evenly over its length, 1 + 4n of them and at least 5, as many as there are at the wanted rate; of
    these the first are taken, at most `most`. A short video repeats frames, and so does one at the wanted rate
    whose length is a multiple of 4: its last frame is there twice.
    """
    own = wanted if fps is None else fps
    count = max(TIME * int(there / own * wanted / TIME) + 1, TIME + 1)
    last = TIME * (there // TIME) if own == wanted else there - 1
    places = torch.linspace(0, last, count).round().long().clamp(max=there - 1)  # float32, as the official code has it
    return [int(place) for place in places[: TIME * (most // TIME) + 1]]


def in_size(frames: Sequence[UInt8[np.ndarray, "rows columns 3"]], size: Size) -> Float[Tensor, "n 3 tall wide"]:
    """Pixels in [-1, 1] of images, stretched to a size by Pillow's bicubic filter on 8 bits."""
    tall, wide = size
    sized = [
        frame
        if frame.shape[:2] == size
        else np.asarray(Image.fromarray(frame).resize((wide, tall), Image.Resampling.BICUBIC))
        for frame in frames
    ]
    return signal(np.stack(sized))


def _scaled(size: Size, scale: float) -> Size:
    height, width = (max(UNIT, round(round(side * scale) / UNIT) * UNIT) for side in size)
    return height, width
