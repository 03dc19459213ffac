"""Bars on stderr: what is being done, how far it is, how long it will take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kinoform.pipelines.generate import Callback
from kinoform.pipelines.generate import Progress as Stage

STAGES = {"text": "reading the prompt", "denoise": "making the film", "decode": "drawing frames"}


@contextmanager
def bars(films: int = 1) -> Iterator[Callback]:
    """One bar a stage, begun anew for each of several films; what is yielded is told of progress."""
    columns = (
        TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        tasks, film = {}, {}

        def tell(now: Stage) -> None:
            if now.stage not in tasks:
                tasks[now.stage], film[now.stage] = progress.add_task(STAGES[now.stage], total=now.total), 1
            elif now.done <= progress.tasks[tasks[now.stage]].completed:
                film[now.stage] += 1
                progress.reset(tasks[now.stage], total=now.total)
            number = f" {film[now.stage]}/{films}" if films > 1 and now.stage != "text" else ""
            progress.update(tasks[now.stage], completed=now.done, description=STAGES[now.stage] + number)

        yield tell
