"""Logs and progress of a training: one JSON line per step for programs, one moving line for people."""

import errno
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kinoform.errors import KinoformError
from kinoform.files import whole

_SHOWN_AFTER = 2.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Measurement of one step. `step` is its index from 0; `samples`, `flops`, `seconds` are totals after it.

    `learning_rate` is AdamW's; Muon's is in proportion.
    `loss` and `gradient_norm` (before clipping) are None where they were not finite: such a step was skipped.
    """

    step: int
    samples: int
    loss: float | None
    learning_rate: float
    gradient_norm: float | None
    seconds: float
    flops: float


class Log:
    """Appends measurements to a file of JSON lines, each written at once, so that a reader can follow it.

    Opened at step `step`, it first drops all lines of that step and later ones, and lines cut short by a
    kill: a resumed training leaves the same clean sequence as an uninterrupted one. Lines for which there is
    no room are kept in memory, with a warning, until there is.
    """

    def __init__(self, path: Path, *, step: int) -> None:
        with _write_errors(path):
            kept = _lines_before(path, step) if path.exists() else []
            with whole(path, force=True) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")
            self._file = path.open("ab", buffering=0)
        self._path, self._waiting, self._warned = path, b"", False

    def write(self, measurement: Measurement) -> None:
        self._waiting += written([measurement])
        try:
            self._empty()
            self._warned = False
        except OSError as failure:
            if not self._warned:
                warnings.warn(f"the log {self._path} has to wait: {failure}", stacklevel=2)
            self._warned = True

    def sync(self) -> None:
        """Force the lines onto the disk; called before a checkpoint, which must not be ahead of its log.

        Raises KinoformError when that fails, for example on a full disk.
        """
        with _write_errors(self._path):
            self._empty()
            os.fsync(self._file.fileno())

    def _empty(self) -> None:
        # Unbuffered: a buffer that could not be emptied would fail once more on closing.
        while self._waiting:
            written = self._file.write(self._waiting)
            self._waiting = self._waiting[written:]
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[Measurement]:
    """Read all measurements of a log, in order; a last line cut short by a kill is left out."""
    return parse_metrics(path.read_text(encoding="utf-8"))


def parse_metrics(text: str) -> list[Measurement]:
    """Parse the lines of a log; those that are none are left out."""
    return [entry for line in text.split("\n") if (entry := _entry(line)) is not None]


def written(measurements: Iterable[Measurement]) -> bytes:
    """Write measurements as the lines of a log."""
    return b"".join(json.dumps(asdict(item), allow_nan=False).encode() + b"\n" for item in measurements)


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise KinoformError(
            f"the log {path} could not be written: {failure}; when that is mended, run the same command to "
            "continue from the newest checkpoint",
            code="write_failed",
        ) from failure


def _lines_before(path: Path, step: int) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    kept, last = [], -1
    for line in lines:
        entry = _entry(line)
        if entry is not None and last < entry.step < step:
            kept.append(f"{line}\n")
            last = entry.step
    return kept


def _entry(line: str) -> Measurement | None:
    try:
        entry = Measurement(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    return entry if type(entry.step) is int else None


@contextmanager
def bar(
    total: int, *, done: int = 0, shown: bool = True, title: str = ""
) -> Iterator[Callable[[int, float | None], None]]:
    """Yield `tell(steps done, loss)`, which draws a bar with the time left on stderr after two seconds."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    progress = Progress(*columns, console=console, refresh_per_second=2, disable=not shown)
    task = progress.add_task(title, total=total, completed=done)
    start = time.monotonic()

    def tell(step: int, loss: float | None) -> None:
        if not progress.live.is_started and time.monotonic() - start > _SHOWN_AFTER:
            progress.start()
        progress.update(task, completed=step, description=title if loss is None else f"loss {loss:.4f}")

    try:
        yield tell
    finally:
        if progress.live.is_started:
            progress.stop()
