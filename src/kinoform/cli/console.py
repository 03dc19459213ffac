"""What people read: bars, notes and errors on stderr; results alone on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
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


def note(text: str) -> None:
    """A line for people."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(escape(text))


def fail(text: str, code: int) -> int:
    """One sentence on stderr; the exit code is handed through."""
    note(f"kinoform: {text}")
    return code


def result(text: str, data: Mapping[str, object], *, as_json: bool) -> None:
    """One result: a line of text, or the data as JSON on one line."""
    print(json.dumps(data, ensure_ascii=False) if as_json else text, file=sys.stdout, flush=True)


@contextmanager
def bars() -> Iterator[Callback]:
    """A bar with time left for every stage; what is yielded is told of progress."""
    columns = (
        TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        tasks = {}

        def tell(now: Stage) -> None:
            if now.stage not in tasks or now.done <= progress.tasks[tasks[now.stage]].completed:
                tasks[now.stage] = progress.add_task(STAGES[now.stage], total=now.total)
            progress.update(tasks[now.stage], completed=now.done)

        yield tell
