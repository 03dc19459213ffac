"""How far the work is: bars on a terminal, a line now and then elsewhere, events for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from kinoform.cli import console
from kinoform.cli.events import StageStarted, StepDone

if TYPE_CHECKING:
    from kinoform.pipelines.generate import Callback, Progress

STAGES = {
    "text": "reading the prompt",
    "encode": "reading images and videos",
    "denoise": "making the video",
    "decode": "drawing frames",
    "compose": "laying it over the video",
}

Tell: TypeAlias = Callable[[str, int, int], None]
"""Called with a stage, the pieces of it that are done, and all of them."""

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""

STEP_EVERY = 0.1
"""Seconds between events of steps; the first and the last of a stage are always told."""


@contextmanager
def bars(videos: int = 1) -> Iterator[Callback]:
    """For `videos` videos; what is yielded is told of a pipeline's progress."""
    with stages(STAGES, items=videos, once={"text", "encode"}) as tell:

        def heard(now: Progress) -> None:
            tell(now.stage, now.done, now.total)

        yield heard


@contextmanager
def stages(
    titles: Mapping[str, str], *, items: int = 1, once: Collection[str] = (), drawn: bool = True
) -> Iterator[Tell]:
    """Show the stages in `titles`, of which those not in `once` come for each of the `items` anew.

    With `drawn` False people see nothing of them; events are told all the same.
    """
    with _drawing(titles, drawn) as draw:
        clocks: dict[str, _Clock] = {}
        free = monotonic()  # since when the stage to come may have been running

        def tell(stage: str, done: int, total: int) -> None:
            nonlocal free
            clock, several = clocks.get(stage), items > 1 and stage not in once
            if clock is None or (several and (done < clock.done or clock.done == total)):
                item = 1 if clock is None else clock.item + 1
                clock = clocks[stage] = _Clock(item, done, free)
                console.tell(
                    StageStarted(
                        stage=stage, total=total, item=item if several else None, items=items if several else None
                    )
                )
            free = monotonic()
            step = clock.step(stage, done, total, items if several else None)
            draw(step)
            if clock.due(done == total):
                console.tell(step)

        yield tell


class _Clock:
    """The time of one stage of one item."""

    def __init__(self, item: int, done: int, free: float) -> None:
        self.item, self.done = item, 0
        self._told: float | None = None
        # Work that is continued, in its middle, is measured from there.
        self._first, self._begun = (0, free) if done <= 1 else (done, monotonic())

    def step(self, stage: str, done: int, total: int, items: int | None) -> StepDone:
        self.done = done
        seconds, measured = monotonic() - self._begun, done - self._first
        return StepDone(
            stage=stage, step=done, total=total, item=None if items is None else self.item, items=items,
            seconds=round(seconds, 3),
            seconds_left=round(seconds / measured * (total - done), 3) if measured > 0 else None,
        )  # fmt: skip

    def due(self, last: bool) -> bool:
        if not last and self._told is not None and monotonic() - self._told < STEP_EVERY:
            return False
        self._told = monotonic()
        return True


@contextmanager
def _drawing(titles: Mapping[str, str], drawn: bool) -> Iterator[Callable[[StepDone], None]]:
    if console.streams() or not drawn:
        yield lambda step: None
    elif sys.stderr.isatty():
        with _bars(titles) as draw:
            yield draw
    else:
        yield _Lines(titles)


class _Lines:
    """A line where a bar cannot be drawn; short work is done without a word."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles, self._told = titles, monotonic()

    def __call__(self, step: StepDone) -> None:
        if monotonic() - self._told < LINE_EVERY:
            return
        self._told = monotonic()
        left = "" if step.seconds_left is None else f", {_clock(step.seconds_left)} left"
        console.note(f"{_title(self._titles, step)} {step.step}/{step.total}, {_clock(step.seconds)}{left}")


@contextmanager
def _bars(titles: Mapping[str, str]) -> Iterator[Callable[[StepDone], None]]:
    """One bar a stage, begun anew for each of several items."""
    # Rich is imported where something is drawn, since help and short commands do without it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks, items = {}, {}

        def draw(step: StepDone) -> None:
            if step.stage not in tasks:
                tasks[step.stage] = progress.add_task("", total=step.total)
            elif step.item != items[step.stage]:
                progress.reset(tasks[step.stage], total=step.total)
            items[step.stage] = step.item
            progress.update(tasks[step.stage], completed=step.step, description=_title(titles, step))

        yield draw


def _title(titles: Mapping[str, str], step: StepDone) -> str:
    return titles[step.stage] + ("" if step.item is None else f" {step.item}/{step.items}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
