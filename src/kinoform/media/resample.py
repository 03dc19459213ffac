"""Which frames of a source are taken, within the caps, and what is said about it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from kinoform.media.alpha import flat
from kinoform.media.limits import MOST_FRAMES, MOST_RESULT, MOST_SECONDS
from kinoform.media.paint import Paint
from kinoform.media.remarks import Refused, Say
from kinoform.media.timing import Source, Timed, Times, at_rate, exact, laid
from kinoform.media.upright import Stance


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is wanted of a file.

    `single`: the first frame alone; `mask`: what is painted instead of colours, [h, w, 1]; `fps`: the rate to take
    a video at, None for its own; `num_frames`: at most so many.
    """

    single: bool = False
    mask: bool = False
    fps: float | None = None
    num_frames: int | None = None

    @property
    def most(self) -> int | None:
        return 1 if self.single else self.num_frames


@dataclass(slots=True, kw_only=True)
class Pace:
    """Frames that went by: when they begin, how long they stay, in seconds, and how the first lies in its file."""

    begins: list[Fraction] = field(default_factory=list)
    end: Fraction = Fraction(0)
    shortest: Fraction | None = None
    longest: Fraction = Fraction(0)
    stance: Stance | None = None

    def watched(self, frames: Iterable[Timed]) -> Iterator[Timed]:
        """The frames, counted as they go by. Raises Refused when they last longer than any header may say."""
        for frame in frames:
            stays = frame.end - frame.time
            self.stance = self.stance if self.begins else frame.stance
            self.begins.append(frame.time)
            self.end = frame.end
            self.shortest = stays if self.shortest is None else min(stays, self.shortest)
            self.longest = max(stays, self.longest)
            if frame.time > MOST_SECONDS:
                raise _too_long(frame.time)
            yield frame

    @property
    def frames(self) -> int:
        return len(self.begins)

    def even(self, tick: Fraction) -> bool:
        """Whether all frames stay as long, but for what times lose by rounding to `tick`."""
        return self.shortest is None or self.longest - self.shortest <= 2 * tick


def taken(source: Source, wish: Wish, pace: Pace, say: Say) -> Iterator[np.ndarray]:
    """Pixels of each frame, all of one size. Raises Refused for what is above the caps, early if the header tells."""
    _check_header(source, wish)
    frames = pace.watched(source.frames)
    if wish.fps is not None and source.tick:
        frames = at_rate(frames, exact(wish.fps), source.tick)
    count, shape, pixels, shown = 0, None, np.empty(0), None
    paint = Paint(lossy=source.lossy) if wish.mask else None
    for frame in frames:
        if count == wish.most:
            say(f"has {source.count} frames; the first is taken" if wish.single else f"is cut to {count} frames")
            break
        if frame is not shown:  # a higher rate repeats frames
            pixels, shown = _converted(frame, paint, say), frame
        shape = shape or pixels.shape
        if pixels.shape != shape:
            change = f"from {sides(shape)} to {sides(pixels.shape)} in frame {count}"
            raise Refused(f"changes its size {change}; give a video of one size", code="sizes_differ")
        count += 1
        _check_amount(count, shape)
        yield pixels
    if not count:
        raise Refused("has no frame; give another video", code="media_no_video")
    _say_pace(source, wish, pace, count, say)


def rate(source: Source, wish: Wish, pace: Pace) -> float | None:
    """Frames per second of what was taken; None where neither the file nor the wish says."""
    if wish.fps is not None:
        return float(wish.fps)
    if wish.single or not source.tick or not pace.end:
        return None
    return float(source.rate if source.rate and pace.even(source.tick) else pace.frames / pace.end)


def times(source: Source, wish: Wish, pace: Pace, count: int) -> Times | None:
    """Times of the `count` frames that were taken, where they are the file's own and it does not keep one pace."""
    if wish.fps is not None or wish.single or not source.tick or not count or pace.even(source.tick):
        return None
    begins = pace.begins[:count]
    return laid(begins, pace.begins[count] if count < pace.frames else pace.end, source.tick)


def sides(shape: tuple[int, ...]) -> str:
    """Width and height as people write them."""
    return f"{shape[1]}x{shape[0]}"


def _check_header(source: Source, wish: Wish) -> None:
    seconds, count = source.seconds, source.count
    if wish.most is None and seconds is not None and seconds > MOST_SECONDS:
        raise _too_long(seconds)
    if count is None:
        count = int(seconds * source.rate) if seconds is not None and source.rate else 0
    if wish.most is None and count > MOST_FRAMES:
        raise Refused(f"has {count} frames; at most {MOST_FRAMES} are read; cut it first", code="media_too_large")
    if wish.fps is not None and seconds is not None:
        count = int(seconds * exact(wish.fps))
    most = count if wish.most is None else min(count, wish.most)
    _check_amount(most, (*source.size, 1 if wish.mask else 3))


def _converted(frame: Timed, paint: Paint | None, say: Say) -> np.ndarray:
    return flat(frame.pixels(), say) if paint is None else paint.values(frame.pixels(), say)[..., None]


def _check_amount(count: int, shape: tuple[int, ...]) -> None:
    if count > MOST_FRAMES:
        raise Refused(
            f"gives over {MOST_FRAMES} frames, the most that are taken; take fewer frames or a lower rate",
            code="media_too_large",
        )
    if count * int(np.prod(shape)) > MOST_RESULT:
        most = f"over {MOST_RESULT // 2**30} GiB as pixels"
        fits = MOST_RESULT // int(np.prod(shape))
        raise Refused(
            f"gives {count} frames of {sides(shape)}, {most}; take at most {fits} of them "
            f"(ffmpeg -i IN -frames:v {fits} OUT) or make it smaller",
            code="media_too_large",
        )


def _too_long(seconds: Fraction) -> Refused:
    return Refused(
        f"lasts {float(seconds):.0f} s; at most {MOST_SECONDS} s are read; cut it first", code="media_too_large"
    )


def _say_pace(source: Source, wish: Wish, pace: Pace, count: int, say: Say) -> None:
    if not source.tick or wish.single:
        return
    even = pace.even(source.tick)
    if wish.fps is not None and not (even and (count == pace.frames or source.rate == exact(wish.fps))):
        say(f"gives {count} frames at {wish.fps:g} per second, from {pace.frames} of its own")
