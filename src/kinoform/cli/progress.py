"""Progress of the work: bars on a terminal, a line now and then elsewhere, events for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from kinoform.cli import console
from kinoform.cli.events import StageItem, StageStarted, StepDone

if TYPE_CHECKING:
    from kinoform.pipelines.generate import Callback, Progress

STAGES = {
    "text": "reading the prompt",
    "encode": "reading images and videos",
    "denoise": "making the video",
    "decode": "drawing frames",
    "compose": "laying it over the video",
}


class OnProgress(Protocol):
    """Callback with a stage, the pieces of it that are done, and all of them.

    `item` is the number, from 1, of the item for which they are done; without it the next item is taken to begin where
    the pieces begin anew. `expert` is a transformer's name, of a model of several.
    """

    def __call__(
        self, stage: str, done: int, total: int, /, item: int | None = None, expert: str | None = None
    ) -> None: ...


MB = 1_000_000

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""

STEP_EVERY = 0.1
"""Seconds between events of steps; the first and the last of a stage always have one."""


@contextmanager
def bars(videos: int = 1) -> Iterator[Callback]:
    """Yield a callback that shows a pipeline's progress through `videos` videos."""
    with stages(STAGES, items=videos, once={"text", "encode"}) as on_progress:

        def show(progress: Progress) -> None:
            on_progress(progress.stage, progress.done, progress.total, item=progress.video + 1, expert=progress.expert)

        yield show


@contextmanager
def stages(
    titles: Mapping[str, str], *, items: int = 1, once: Collection[str] = (), drawn: bool = True
) -> Iterator[OnProgress]:
    """Show the stages in `titles`, of which those not in `once` come for each of the `items` anew.

    With `drawn` False nothing is drawn; events are emitted all the same.
    """
    with _drawing(titles, drawn) as draw:
        clocks: dict[str, _Clock] = {}
        free = monotonic()  # since when the stage to come may have been running

        def on_progress(
            stage: str, done: int, total: int, /, item: int | None = None, expert: str | None = None
        ) -> None:
            nonlocal free
            clock, work = clocks.get(stage), StageItem(stage=stage, expert=expert)
            if items > 1 and stage not in once:
                work = replace(work, item=_next_item(clock, done, total) if item is None else item, items=items)
            if clock is None or clock.work != work:
                clock = clocks[stage] = _Clock(work, done, free)
                console.emit(StageStarted(**asdict(work), total=total))
            free = monotonic()
            step = clock.step(done, total)
            draw(step)
            if clock.due(done == total):
                console.emit(step)

        yield on_progress


@contextmanager
def megabytes(stage: str, title: str) -> Iterator[Callable[[int, int], None]]:
    """Show one stage, whose pieces are megabytes, by the bytes that are done and all of them."""
    with stages({stage: f"{title} (MB)"}) as on_progress:
        yield lambda done, total: on_progress(stage, done // MB, total // MB + 1)


def _next_item(clock: _Clock | None, done: int, total: int) -> int:
    """Return the number of the item whose pieces are counted, where the caller does not give it."""
    if clock is None or clock.work.item is None:
        return 1
    return clock.work.item + (done < clock.done or clock.done == total)


class _Clock:
    """Clock of a stage and item."""

    def __init__(self, work: StageItem, done: int, free: float) -> None:
        self.work, self.done = work, 0
        self._last_shown: float | None = None
        # Work that is continued, in its middle, is measured from there.
        self._first, self._start = (0, free) if done <= 1 else (done, monotonic())

    def step(self, done: int, total: int) -> StepDone:
        self.done = done
        seconds, measured = monotonic() - self._start, done - self._first
        left = round(seconds / measured * (total - done), 3) if measured > 0 else None
        return StepDone(**asdict(self.work), step=done, total=total, seconds=round(seconds, 3), seconds_left=left)

    def due(self, last: bool) -> bool:
        if not last and self._last_shown is not None and monotonic() - self._last_shown < STEP_EVERY:
            return False
        self._last_shown = monotonic()
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
    """Lines where no bar can be drawn; short work prints nothing."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles, self._last_shown = titles, monotonic()

    def __call__(self, step: StepDone) -> None:
        if monotonic() - self._last_shown < LINE_EVERY:
            return
        self._last_shown = monotonic()
        left = "" if step.seconds_left is None else f", {_clock(step.seconds_left)} left"
        console.note(f"{_title(self._titles, step)} {step.step}/{step.total}, {_clock(step.seconds)}{left}")


@contextmanager
def _bars(titles: Mapping[str, str]) -> Iterator[Callable[[StepDone], None]]:
    """Draw one bar per stage, reset for each of several items."""
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
    video = "" if step.item is None else f" {step.item}/{step.items}"
    return titles[step.stage] + video + ("" if step.expert is None else f", expert {step.expert}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
