"""Schedules: numbers that change during a run, by the share of the steps that are done, or by the level of noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, TypeAlias, cast

from kinoform.errors import UsageError
from kinoform.numbers import real, settle

if TYPE_CHECKING:  # PyTorch comes with it, and the words of options are read without
    from kinoform.types import Level

TIMESTEPS = 1000.0
"""Timestep of pure noise."""

LARGEST = 1e6
"""Bound of any number of a schedule; what it is the number of has closer ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShare:
    """Steps i of N with start <= i / N < end; i counts from the head of the run's list of levels, from 0.

    Raises UsageError unless 0 <= start < end <= 1.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        start, end = (real("a share of the steps", share, 0.0, 1.0) for share in (self.start, self.end))
        _check_span(start, end, written_span(start, end))
        settle(self, start=start, end=end)

    @property
    def bounds(self) -> tuple[float, float]:
        return self.start, self.end

    def __str__(self) -> str:
        return written_span(self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestepRange:
    """Levels with low <= timestep < high, and timestep 1000 too where `high` is that: the experts' own rule.

    Raises UsageError unless 0 <= low < high <= 1000.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        low, high = (real("a timestep", timestep, 0.0, TIMESTEPS) for timestep in (self.low, self.high))
        _check_span(low, high, f"t{written_span(low, high)}")
        settle(self, low=low, high=high)

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def __str__(self) -> str:
        return f"t{written_span(self.low, self.high)}"


Span: TypeAlias = StepShare | TimestepRange


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePiece:
    """One number, and the part of a run in which it holds."""

    value: float
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSchedule:
    """Numbers for the parts of a run: all by shares of the steps, or all by timesteps, in the order of the run.

    Raises UsageError for numbers that are not finite, and for pieces that leave a gap or lie over one another.
    """

    pieces: tuple[SchedulePiece, ...]

    def __post_init__(self) -> None:
        kinds = {type(piece.span) for piece in self.pieces}
        if len(kinds) != 1:
            raise UsageError(
                "a schedule has pieces by shares of the steps, or by timesteps, all alike; write for example "
                "0@0-0.3,1@0.3-1, or 1@t900-1000,0@t0-900",
                code="bad_value",
            )
        numbers = [
            SchedulePiece(value=real(f"the number at {piece.span}", piece.value, -LARGEST, LARGEST), span=piece.span)
            for piece in sorted(self.pieces, key=lambda piece: piece.span.bounds)
        ]
        _check_whole([piece.span for piece in numbers], TIMESTEPS if kinds == {TimestepRange} else 1.0)
        settle(self, pieces=tuple(numbers if kinds == {StepShare} else reversed(numbers)))

    def at(self, level: Level, share: float) -> float:
        """Return the number at a level, after this share of the steps."""
        lasting = isinstance(self.pieces[0].span, StepShare)
        place, last = (share, self.pieces[-1]) if lasting else (level.timestep, self.pieces[0])
        matching = (piece.value for piece in self.pieces if piece.span.bounds[0] <= place < piece.span.bounds[1])
        return next(matching, last.value)


if TYPE_CHECKING:
    Varying: TypeAlias = float | RunSchedule | Callable[[Level], float]
else:
    Varying: TypeAlias = float | RunSchedule | Callable[..., float]
"""A number of a run: one for all of it, a schedule, or a function of the level."""


def along(value: Varying, levels: tuple[Level, ...]) -> Callable[[Level], float]:
    """Return the number at each level of a run through `levels`, which are the whole list, CLEAN included.

    A level between two of the list belongs to the step that it lies in.
    """
    if isinstance(value, RunSchedule):
        return lambda level: value.at(level, _share(level, levels))
    if callable(value):
        return lambda level: float(value(level))
    return lambda level: value


def values_of(value: Varying, levels: tuple[Level, ...]) -> tuple[float, ...]:
    """Return the number in each step of a run through `levels`."""
    return tuple(map(along(value, levels), levels[:-1]))


def changes(value: Varying, levels: tuple[Level, ...]) -> frozenset[int]:
    """Return the steps in which the number differs from that of the step before."""
    numbers = values_of(value, levels)
    return frozenset(index for index, (before, now) in enumerate(pairwise(numbers), start=1) if before != now)


def strongest(value: Varying) -> float:
    """Return the number farthest from 0; 1 for a function, of which nothing is known before a run."""
    if isinstance(value, RunSchedule):
        return max((piece.value for piece in value.pieces), key=abs)
    return 1.0 if callable(value) else value


def fixed(value: Varying, levels: tuple[Level, ...]) -> float | RunSchedule:
    """Return what can be written: a function as the schedule that it was in a run through `levels`."""
    if isinstance(value, RunSchedule) or not callable(value):
        return value
    numbers, steps = values_of(value, levels), len(levels) - 1
    runs = [[index for index, _ in group] for _, group in groupby(enumerate(numbers), key=lambda item: item[1])]
    pieces = (
        SchedulePiece(value=numbers[run[0]], span=StepShare(start=run[0] / steps, end=(run[-1] + 1) / steps))
        for run in runs
    )
    return RunSchedule(pieces=tuple(pieces))


def check_varying(name: str, value: object, lowest: float, highest: float) -> Varying:
    """Return a number as a plain one, and a schedule or a function as it is.

    Raises UsageError, with `name`, for numbers out of range; those of a function are checked by `check_along`.
    """
    if isinstance(value, RunSchedule):
        for piece in value.pieces:
            real(f"{name} at {piece.span}", piece.value, lowest, highest)
        return value
    if callable(value) and not isinstance(value, type):
        return cast("Callable[[Level], float]", value)
    return real(name, value, lowest, highest)


def check_along(name: str, value: Varying, levels: tuple[Level, ...], lowest: float, highest: float) -> None:
    """Raise UsageError, with `name` and the step, where a function of the level gives a number out of range."""
    if isinstance(value, RunSchedule) or not callable(value):
        return
    for index, level in enumerate(levels[:-1], start=1):
        real(f"{name} in step {index} (timestep {level.timestep:g})", value(level), lowest, highest)


def written_span(start: float, end: float) -> str:
    """Return a span as it is read, 0.3-1."""
    return "-".join(str(number).removesuffix(".0") for number in (start, end))


def _share(level: Level, levels: tuple[Level, ...]) -> float:
    """Return the share of the steps that are done at a level: i / N in step i."""
    begun = sum(level.sigma <= item.sigma for item in levels[:-1])
    return max(0, begun - 1) / (len(levels) - 1)


def _check_span(start: float, end: float, text: str) -> None:
    if not start < end:
        raise UsageError(
            f"{text} holds no step; write its smaller bound first, as in 0.3-1, or t900-1000",
            code="value_out_of_range",
        )


def _check_whole(spans: list[Span], end: float) -> None:
    """Raise UsageError unless spans in rising order cover everything from 0 to `end` once."""
    mark = "t" if isinstance(spans[0], TimestepRange) else ""
    reached = 0.0
    for start, stop in (*(span.bounds for span in spans), (end, end)):
        if start < reached:
            over = written_span(start, min(stop, reached))
            raise UsageError(f"a schedule has two numbers for {mark}{over}; give it one", code="schedule_overlap")
        if start > reached:
            gap = written_span(reached, start)
            raise UsageError(
                f"a schedule has no number for {mark}{gap}; add one, as in 1@{mark}{gap}", code="schedule_gap"
            )
        reached = stop
