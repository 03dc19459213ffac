"""Frames with their times, and the frames that are read of a source: within limits, at a rate, with warnings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, pairwise

import numpy as np

from kinoform.errors import UsageError
from kinoform.media.diagnostics import UnsupportedFile, Warn
from kinoform.media.limits import MAX_FRAMES, MAX_RESULT, MAX_SECONDS
from kinoform.media.paint import Paint, flat
from kinoform.media.upright import Stance

LARGEST_DENOMINATOR = 1001
"""Enough for 24000/1001 and its relatives exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedFrame:
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
        bounds = (*self.begins, self.end)
        if self.tick <= 0 or bounds[0] != 0 or any(one >= other for one, other in pairwise(bounds)):
            raise UsageError("the times of frames must rise from 0 on, in ticks above 0", code="times_not_rising")

    @property
    def seconds(self) -> Fraction:
        """Length of all frames together."""
        return self.end * self.tick

    @property
    def stays(self) -> tuple[Fraction, ...]:
        """Seconds that each frame is on screen."""
        return tuple((end - begin) * self.tick for begin, end in pairwise((*self.begins, self.end)))

    def rounded(self, tick: Fraction) -> "Times":
        """Round to other ticks, of which each frame keeps one at least."""
        return times_from([begin * self.tick for begin in self.begins], self.seconds, tick)


def times_from(begins: Sequence[Fraction], end: Fraction, tick: Fraction) -> Times:
    """Convert seconds, from 0 on, to times; frames that begin at once are put a tick apart."""
    ticks = list[int]()
    for begin in begins:
        ticks.append(max(round(begin / tick), ticks[-1] + 1 if ticks else 0))
    return Times(tick=tick, begins=tuple(ticks), end=max(round(end / tick), ticks[-1] + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSource:
    """A file or folder whose header is read and whose frames are not.

    `size` is height and width before any rotation. `tick` is the unit of time that the file is written in, in
    seconds; 0 where frames have no times. `rate`, `count` and `seconds` are what the header says, if it does.
    `lossy`: whether a coder may have moved the colours. `has_audio`: whether there are tracks beside the frames.
    """

    size: tuple[int, int]
    frames: Iterator[TimedFrame]
    tick: Fraction = Fraction(0)
    rate: Fraction | None = None
    count: int | None = None
    seconds: Fraction | None = None
    lossy: bool = False
    has_audio: bool = False


def exact_rate(fps: float) -> Fraction:
    """Return the rate that a rounded number means: 23.976 is 24000/1001."""
    return Fraction(fps).limit_denominator(LARGEST_DENOMINATOR)


def at_rate(frames: Iterable[TimedFrame], fps: Fraction, tick: Fraction) -> Iterator[TimedFrame]:
    """Resample `frames`, which begin at time 0: frame k of the result is the one on screen at k / fps.

    Files round times to their `tick`, so a frame counts as there half a tick early.
    """
    count, shown = 0, None
    for frame in frames:
        while shown is not None and count / fps < frame.time - tick / 2:
            yield shown
            count += 1
        shown = frame
    while shown is not None and count / fps < shown.end - tick / 2:
        yield shown
        count += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """Options of reading a file.

    `single`: the first frame alone; `mask`: the painted area instead of colours, [h, w, 1]; `fps`: the rate to take
    a video at, None for its own; `num_frames`: at most so many, from the frame `start` on, counted at that rate (a
    single frame begins anywhere). Whoever says where to begin takes a part, of which nobody is warned.
    """

    single: bool = False
    mask: bool = False
    fps: float | None = None
    num_frames: int | None = None
    start: int | None = None

    @property
    def max_frames(self) -> int | None:
        return 1 if self.single else self.num_frames


@dataclass(slots=True, kw_only=True)
class FrameTimingStats:
    """Times of the frames that went by: their beginnings and durations in seconds; how the first lies in its file."""

    begins: list[Fraction] = field(default_factory=list)
    end: Fraction = Fraction(0)
    shortest: Fraction | None = None
    longest: Fraction = Fraction(0)
    stance: Stance | None = None

    def count(self, frames: Iterable[TimedFrame]) -> Iterator[TimedFrame]:
        """Yield the frames, counted as they go by. Raises UnsupportedFile when they last too long."""
        for frame in frames:
            stays = frame.end - frame.time
            self.stance = self.stance if self.begins else frame.stance
            self.begins.append(frame.time)
            self.end = frame.end
            self.shortest = stays if self.shortest is None else min(stays, self.shortest)
            self.longest = max(stays, self.longest)
            if frame.time > MAX_SECONDS:
                raise _too_long(frame.time)
            yield frame

    @property
    def frames(self) -> int:
        return len(self.begins)

    def even(self, tick: Fraction) -> bool:
        """True if all frames stay as long, but for what times lose by rounding to `tick`."""
        return self.shortest is None or self.longest - self.shortest <= 2 * tick


def resample_frames(
    source: FrameSource, options: DecodeOptions, stats: FrameTimingStats, warn: Warn
) -> Iterator[np.ndarray]:
    """Yield the pixels of each frame, all of one size.

    Raises UnsupportedFile for what is above the limits, early if the header tells.
    """
    _check_header(source, options)
    frames = stats.count(source.frames)
    if options.fps is not None and source.tick:
        frames = at_rate(frames, exact_rate(options.fps), source.tick)
    frames = _from(options.start, frames) if options.start and not (source.count == 1 and not source.tick) else frames
    count, shape, pixels, shown = 0, None, np.empty(0), None
    paint = Paint(lossy=source.lossy) if options.mask else None
    for frame in frames:
        if count == options.max_frames:
            if options.start is None:
                cut = (
                    f"has {source.count} frames; the first is taken" if options.single else f"is cut to {count} frames"
                )
                warn(cut)
            break
        if frame is not shown:  # a higher rate repeats frames
            pixels, shown = _converted(frame, paint, warn), frame
        shape = shape or pixels.shape
        if pixels.shape != shape:
            change = f"from {sides(shape)} to {sides(pixels.shape)} in frame {count}"
            raise UnsupportedFile(f"changes its size {change}; give a video of one size", code="sizes_differ")
        count += 1
        _check_amount(count, shape)
        yield pixels
    if not count:
        raise UnsupportedFile("has no frame; give another video", code="media_no_video")
    _warn_of_rate(source, options, stats, count, warn)


def rate(source: FrameSource, options: DecodeOptions, stats: FrameTimingStats) -> float | None:
    """Return the frames per second of what was read; None where neither the file nor the options say."""
    if options.fps is not None:
        return float(options.fps)
    if options.single or not source.tick or not stats.end:
        return None
    return float(source.rate if source.rate and stats.even(source.tick) else stats.frames / stats.end)


def times(source: FrameSource, options: DecodeOptions, stats: FrameTimingStats, count: int) -> Times | None:
    """Return the times of the `count` frames that were read, where they are the file's own and not even."""
    if options.fps is not None or options.single or not source.tick or not count or stats.even(source.tick):
        return None
    first = options.start or 0
    end = first + count
    begins = [begin - stats.begins[first] for begin in stats.begins[first:end]]
    finish = stats.begins[end] if end < stats.frames else stats.end
    return times_from(begins, finish - stats.begins[first], source.tick)


def sides(shape: tuple[int, ...]) -> str:
    """Format width and height as people write them."""
    return f"{shape[1]}x{shape[0]}"


def _check_header(source: FrameSource, options: DecodeOptions) -> None:
    seconds, count = source.seconds, source.count
    if options.max_frames is None and seconds is not None and seconds > MAX_SECONDS:
        raise _too_long(seconds)
    if count is None:
        count = int(seconds * source.rate) if seconds is not None and source.rate else 0
    if options.max_frames is None and count > MAX_FRAMES:
        raise too_many(count)
    if options.fps is not None and seconds is not None:
        count = int(seconds * exact_rate(options.fps))
    expected = count if options.max_frames is None else min(count, options.max_frames)
    _check_amount(expected, (*source.size, 1 if options.mask else 3))


def _converted(frame: TimedFrame, paint: Paint | None, warn: Warn) -> np.ndarray:
    return flat(frame.pixels(), warn) if paint is None else paint.values(frame.pixels(), warn)[..., None]


def _check_amount(count: int, shape: tuple[int, ...]) -> None:
    if count > MAX_FRAMES:
        raise UnsupportedFile(
            f"gives over {MAX_FRAMES} frames, the most that are taken; take fewer frames or a lower rate",
            code="media_too_large",
        )
    if count * int(np.prod(shape)) > MAX_RESULT:
        size = f"over {MAX_RESULT // 2**30} GiB as pixels"
        fits = MAX_RESULT // int(np.prod(shape))
        raise UnsupportedFile(
            f"gives {count} frames of {sides(shape)}, {size}; take at most {fits} of them "
            f"(ffmpeg -i IN -frames:v {fits} OUT) or make it smaller",
            code="media_too_large",
        )


def _from(start: int, frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
    """Leave out the frames before `start`. Raises UnsupportedFile where there are no others."""
    first = next(islice(frames, start, None), None)
    if first is None:
        raise UnsupportedFile(
            f"ends before frame {start}, from which it is to be read; begin earlier", code="start_beyond_end"
        )
    yield first
    yield from frames


def too_many(count: int) -> UnsupportedFile:
    """Return the refusal of a file with so many frames."""
    return UnsupportedFile(f"has {count} frames; at most {MAX_FRAMES} are read; cut it first", code="media_too_large")


def _too_long(seconds: Fraction) -> UnsupportedFile:
    return UnsupportedFile(
        f"lasts {float(seconds):.0f} s; at most {MAX_SECONDS} s are read; cut it first", code="media_too_large"
    )


def _warn_of_rate(source: FrameSource, options: DecodeOptions, stats: FrameTimingStats, count: int, warn: Warn) -> None:
    if not source.tick or options.single or options.start is not None:
        return
    even = stats.even(source.tick)
    if options.fps is not None and not (even and (count == stats.frames or source.rate == exact_rate(options.fps))):
        warn(f"gives {count} frames at {options.fps:g} per second, from {stats.frames} of its own")
