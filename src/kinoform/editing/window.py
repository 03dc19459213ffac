"""Window: the part of a video that a model sees, in a size that the model can make."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, UInt8

from kinoform.conditions.protocols import Units
from kinoform.conditions.resize import Size

MAX_SHARE = 0.5
"""Largest share of a video's area that is cut out; a larger window gains little and loses its surroundings."""

MIN_GAIN = 1.25
"""Least gain in made pixels for each source pixel, along a side, for which another size than the request's is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Rows and columns of a video, from `top` and `left`, which a model sees in the size `made` (height, width).

    A window may reach beyond the video, whose edge is repeated there. Both sides have the same rational ratio to those
    of `made`, so that nothing is stretched.
    """

    top: int
    left: int
    height: int
    width: int
    made: Size

    @property
    def scale(self) -> float:
        """Return the source pixels along one made pixel."""
        return self.height / self.made[0]

    def inside(self, video: Size) -> tuple[slice, slice]:
        """Return the rows and columns of the video that lie in the window."""
        rows = slice(max(0, self.top), min(video[0], self.top + self.height))
        return rows, slice(max(0, self.left), min(video[1], self.left + self.width))

    def seen(self, frame: UInt8[np.ndarray, "rows columns 3"]) -> UInt8[np.ndarray, "tall wide 3"]:
        """Return the window of a frame in the size made: bicubic, antialiased where it becomes smaller."""
        return _bytes(resized(self._cut(frame).astype(np.float32), self.made))

    def touched(self, changes: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "tall wide"]:
        """Return the made pixels that overlap any pixel of the video that changes."""
        cut = torch.from_numpy(self._cut(changes).astype(np.float32))[None, None]
        return (F.interpolate(cut, size=self.made, mode="area")[0, 0] > 0).numpy()

    def given_back(self, frame: UInt8[np.ndarray, "tall wide 3"], video: Size) -> Float32[np.ndarray, "rows columns 3"]:
        """Return a made frame in the pixels of the video, 0 to 255, where the window lies `inside` it."""
        large = resized(frame.astype(np.float32), (self.height, self.width)).clip(0, 255)
        rows, columns = self.inside(video)
        top, left = rows.start - self.top, columns.start - self.left
        return large[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]

    def _cut(self, frame: np.ndarray) -> np.ndarray:
        rows = np.clip(np.arange(self.top, self.top + self.height), 0, frame.shape[0] - 1)
        columns = np.clip(np.arange(self.left, self.left + self.width), 0, frame.shape[1] - 1)
        return frame[rows][:, columns]


def window_around(changes: Bool[np.ndarray, "rows columns"], *, margin: float, asked: Size, units: Units) -> Window:
    """Return the window around all that changes, with a margin of `margin` lengths of its longer side.

    Where that is a large part of the video, return the window of the whole video. A window around a part is never
    magnified: it is at least as large as `made`.
    """
    video: Size = (changes.shape[0], changes.shape[1])
    rows, columns = _extent(changes.max(axis=1)), _extent(changes.max(axis=0))
    more = math.ceil(margin * max(rows[1] - rows[0], columns[1] - columns[0]))
    box = rows[1] - rows[0] + 2 * more, columns[1] - columns[0] + 2 * more
    height, width, made = _covering(box, asked, units, magnify=False)
    if height > video[0] or width > video[1] or height * width > MAX_SHARE * video[0] * video[1]:
        return whole(video, asked=asked, units=units)
    top, left = _placed(rows, height, video[0]), _placed(columns, width, video[1])
    return Window(top=top, left=left, height=height, width=width, made=made)


def whole(video: Size, *, asked: Size, units: Units) -> Window:
    """Return the window of a whole video, centred, of the nearest proportions that a model can make."""
    height, width, made = _covering(video, asked, units, magnify=True)
    return Window(top=(video[0] - height) // 2, left=(video[1] - width) // 2, height=height, width=width, made=made)


def resized(pixels: Float32[np.ndarray, "rows columns c"], size: Size) -> Float32[np.ndarray, "tall wide c"]:
    """Resize bicubically, which may overshoot, antialiased where it becomes smaller; the same size is unchanged."""
    if pixels.shape[:2] == size:
        return pixels
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).movedim(2, 0)[None]
    return F.interpolate(planes, size=size, mode="bicubic", antialias=True)[0].movedim(0, 2).contiguous().numpy()


def _covering(box: Size, asked: Size, units: Units, *, magnify: bool) -> tuple[int, int, Size]:
    """Return height, width and made size of the window around a box with the most made pixels per source pixel."""
    tall, wide = units.side
    tokens = (asked[0] // tall) * (asked[1] // wide)
    sizes = ((rows * tall, tokens // rows * wide) for rows in range(1, tokens + 1))
    best = min(_scaled(box, sizes, magnify), key=lambda scaled: scaled[0])
    (as_asked,) = _scaled(box, [asked], magnify)
    _, parts, step, made = as_asked if as_asked[0] <= MIN_GAIN * best[0] else best
    return parts * made[0] // step, parts * made[1] // step, made


def _scaled(box: Size, sizes: Iterable[Size], magnify: bool) -> list[tuple[float, int, int, Size]]:
    """Return for each size the source pixels along a made pixel, as a number and as parts / step, and the size."""
    scaled = []
    for size in sizes:
        step = math.gcd(*size)
        parts = max(-(-side * step // made) for side, made in zip(box, size, strict=True))
        parts = parts if magnify else max(parts, step)
        scaled.append((parts / step, parts, step, size))
    return scaled


def _extent(line: Bool[np.ndarray, " n"]) -> tuple[int, int]:
    indices = np.flatnonzero(line)
    return int(indices[0]), int(indices[-1]) + 1


def _placed(extent: tuple[int, int], length: int, video: int) -> int:
    """Return the start of a window of this length, centred on the extent where the video allows."""
    return min(max(0, (extent[0] + extent[1] - length) // 2), video - length)


def _bytes(values: Float32[np.ndarray, "rows columns c"]) -> UInt8[np.ndarray, "rows columns c"]:
    return np.rint(values.clip(0, 255)).astype(np.uint8)
