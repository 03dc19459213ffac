"""Frames with their times, and the same video at another rate: at each time the frame that is on screen then."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from kinoform.errors import UsageError
from kinoform.media.upright import Stance

LARGEST_DENOMINATOR = 1001
"""Enough for 24000/1001 and its relatives exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A frame on screen from `time` to `end`, in seconds; `pixels` makes it uint8 RGB or RGBA when it is wanted.

    `stance`: how it lies in its file, where that is not how it is shown.
    """

    pixels: Callable[[], np.ndarray]
    time: Fraction
    end: Fraction
    stance: Stance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The beginning of each frame and the end of the last one, where frames do not all stay as long.

    Whole numbers of `tick` seconds, from 0 on, each above the one before.
    Raises UsageError for others.
    """

    tick: Fraction
    begins: tuple[int, ...]
    end: int

    def __post_init__(self) -> None:
        every = (*self.begins, self.end)
        if self.tick <= 0 or every[0] != 0 or any(one >= other for one, other in pairwise(every)):
            raise UsageError("the times of frames must rise from 0 on, in ticks above 0", code="times_not_rising")

    @property
    def seconds(self) -> Fraction:
        """The length of all frames together."""
        return self.end * self.tick

    @property
    def stays(self) -> tuple[Fraction, ...]:
        """Seconds that each frame is on screen."""
        return tuple((end - begin) * self.tick for begin, end in pairwise((*self.begins, self.end)))

    def rounded(self, tick: Fraction) -> "Times":
        """Round to other ticks, of which each frame keeps one at least."""
        return laid([begin * self.tick for begin in self.begins], self.seconds, tick)


def laid(begins: Sequence[Fraction], end: Fraction, tick: Fraction) -> Times:
    """Times from seconds, from 0 on; frames that begin at once are put a tick apart."""
    found = list[int]()
    for begin in begins:
        found.append(max(round(begin / tick), found[-1] + 1 if found else 0))
    return Times(tick=tick, begins=tuple(found), end=max(round(end / tick), found[-1] + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file or folder whose header is read and whose frames are not.

    `size` is height and width before any rotation. `tick` is the unit of time that the file is written in, in
    seconds; 0 where frames have no times. `rate`, `count` and `seconds` are what the header says, if it does.
    `lossy`: whether a coder may have moved the colours. `heard`: whether there are tracks beside the frames.
    """

    size: tuple[int, int]
    frames: Iterator[Timed]
    tick: Fraction = Fraction(0)
    rate: Fraction | None = None
    count: int | None = None
    seconds: Fraction | None = None
    lossy: bool = False
    heard: bool = False


def exact(fps: float) -> Fraction:
    """The rate that a rounded number means: 23.976 is 24000/1001."""
    return Fraction(fps).limit_denominator(LARGEST_DENOMINATOR)


def at_rate(frames: Iterable[Timed], fps: Fraction, tick: Fraction) -> Iterator[Timed]:
    """Frame k of the result is on screen at k / fps in `frames`, which begin at time 0.

    Files round times to their `tick`, so a frame counts as there half a tick early.
    """
    taken, shown = 0, None
    for frame in frames:
        while shown is not None and taken / fps < frame.time - tick / 2:
            yield shown
            taken += 1
        shown = frame
    while shown is not None and taken / fps < shown.end - tick / 2:
        yield shown
        taken += 1
