"""Buckets: the sizes and lengths in which clips are learnt, and how many of a size make a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kinoform.conditions.protocols import Units, VideoSize
from kinoform.errors import UsageError

ASPECTS = (1 / 2, 9 / 16, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 16 / 9, 2.0)
"""Width / height of the buckets of an area."""

LARGER = 1.1
"""Share of the area that is asked for, up to which a bucket may have more where its sides are rounded."""


MAX_FRAMES = 99_999


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipLengths:
    """Frames of clips, in rising order: a video is learnt in the longest that it fills, with `each` in all of these."""

    frames: tuple[int, ...]
    each: bool = False

    @property
    def text(self) -> str:
        """The lengths as `lengths_of` reads them."""
        return ("+" if self.each else ",").join(map(str, self.frames))

    def of(self, there: int) -> tuple[int, ...]:
        """Return the lengths for a video of so many frames, the longest last; none where it fills none."""
        filled = tuple(number for number in self.frames if number <= there)
        return filled if self.each else filled[-1:]


def lengths_of(text: str) -> ClipLengths:
    """Return the lengths of text: 81, or 17,33 for the longest that a video fills, or 17+33 for each that it fills.

    Raises UsageError for text that is no such list.
    """
    each = "+" in text
    words = [word.strip() for word in text.split("+" if each else ",")]
    if not all(word.isdecimal() and len(word) < 6 and 0 < int(word) <= MAX_FRAMES for word in words):
        raise UsageError(
            f"--clip-frames {text[:40]!r} is no number of frames; write 81, 17,33 for the longest that a video fills, "
            "or 17+33 for each",
            code="bad_value",
        )
    return ClipLengths(frames=tuple(sorted({int(word) for word in words})), each=each and len(words) > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Sizes (height, width) in pixels; a clip is learnt in that of the nearest proportions."""

    sizes: tuple[tuple[int, int], ...]

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Return the size for a clip of this one."""
        return min(self.sizes, key=lambda size: abs(math.log(size[1] / size[0]) - math.log(width / height)))


def buckets_of(height: int, width: int, units: Units, *, one: bool = False) -> Buckets:
    """Return buckets of about the area of a size, in nine proportions and its own; or its own alone.

    Raises UsageError for sides that are no multiples of the units.
    """
    tall, wide = units.side
    if height % tall or width % wide or height < tall or width < wide:
        raise UsageError(
            f"clips of {width}x{height} cannot be encoded: width and height must be multiples of {wide} and {tall}",
            code="size_not_legal",
        )
    if one:
        return Buckets(sizes=((height, width),))
    others = (
        _rounded(math.sqrt(height * width / aspect), math.sqrt(height * width * aspect), units) for aspect in ASPECTS
    )
    fitting = (size for size in others if size[0] * size[1] <= LARGER * height * width)
    return Buckets(sizes=tuple(dict.fromkeys(((height, width), *fitting))))


def _rounded(height: float, width: float, units: Units) -> tuple[int, int]:
    tall, wide = units.side
    return max(1, round(height / tall)) * tall, max(1, round(width / wide)) * wide


def tokens_of(size: VideoSize, units: Units) -> int:
    """Count the tokens of a video in self-attention."""
    frames = ((size.num_frames - 1) // units.stride[0] + 1) / units.patch[0]
    return math.ceil(frames) * (size.height // units.side[0]) * (size.width // units.side[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSize:
    """Batch sizes by a budget of `tokens`, at most `largest` clips and at least one for each of `processes`."""

    tokens: int
    largest: int = 8
    processes: int = 1

    def of(self, size: VideoSize, units: Units) -> int:
        """Return the number of clips of a size in a batch, a multiple of the processes."""
        fitting = min(self.largest, self.tokens // tokens_of(size, units))
        return max(1, fitting // self.processes) * self.processes


def most_tokens(sizes: Sequence[VideoSize], units: Units) -> int:
    """Return the tokens of the largest of several sizes."""
    return max(tokens_of(size, units) for size in sizes)
