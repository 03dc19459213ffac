"""Events that a run tells of itself, and the log that writes them down, without prompts unless these are asked for.

People and programs hear them through `kinoform.cli.console`.
"""

from __future__ import annotations

import json
import math
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar, TypeAlias

from kinoform.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A command begins. `options` are those given by flag, environment or file, without any prompt."""

    event: ClassVar[str] = "started"
    command: str
    version: str
    options: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageItem:
    """Kind of work, for one item.

    It is for `item` of `items` where it comes once for each of several videos, and by the transformer of the name
    `expert` where a model has several.
    """

    stage: str
    item: int | None = None
    items: int | None = None
    expert: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted(StageItem):
    """Work of `total` pieces begins, or goes on with another transformer."""

    event: ClassVar[str] = "stage"
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone(StageItem):
    """`step` of `total` pieces are done, after `seconds` of this stage; `seconds_left` is None where unknown."""

    event: ClassVar[str] = "step"
    step: int
    total: int
    seconds: float
    seconds_left: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Message worth knowing."""

    event: ClassVar[str] = "note"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """Warning: the work goes on, but perhaps not as meant."""

    event: ClassVar[str] = "warning"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One result; its fields are those of `--json`."""

    event: ClassVar[str] = "result"
    result: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The command failed; nothing follows. `kind` is the name of the error's class, `code` the fault's stable name."""

    event: ClassVar[str] = "error"
    kind: str
    code: str
    message: str
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The command is done; nothing follows."""

    event: ClassVar[str] = "finished"
    exit_code: int
    seconds: float


Event: TypeAlias = Started | StageStarted | StepDone | Note | Caution | Result | Failure | Finished
EVENTS = (Started, StageStarted, StepDone, Note, Caution, Result, Failure, Finished)


def as_object(event: Event) -> dict[str, object]:
    """Return the event for programs: its kind under `event`, then its fields."""
    return {"event": event.event, **{field.name: getattr(event, field.name) for field in fields(event)}}


def line_of(record: Mapping[str, object]) -> str:
    """Return one line of JSON in ASCII. NaN and the infinities, for which JSON has no numbers, become null."""
    try:
        return json.dumps(record, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(record), default=str, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


PROMPTS = {"prompt", "negative_prompt"}
"""Fields of results that are left out, at any depth."""

FREE = ("message", "result", "options")
"""Fields of events that may hold words of the user."""

MIN_LETTERS = 3
"""Fewest letters of a word that is masked; shorter ones reveal nothing."""

PIECE = re.compile(r"[A-Za-z0-9]+|[^\x00-\x7f]")
"""Pieces that are masked as one: a plain word, or one character of any other script."""


class RunLog:
    """Log that appends events to a file, one JSON object per line; steps are left out.

    `prompts` says which texts are private. Their words are masked in all messages, names of files and
    results, since warnings quote single words and default names are made of them. With `private` None
    everything is written as it is. Raises UsageError when the file cannot be written at the beginning; a
    disk that fills up later does not end the work.
    """

    def __init__(self, path: Path, private: Callable[[], Iterable[str]] | None) -> None:
        self._path, self._private, self._failed = path, private, False
        try:
            path.open("a").close()
        except OSError as error:
            raise UsageError(
                f"the log {path} cannot be written ({error.strerror}); choose another --log", code="file_not_writable"
            ) from error

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepDone):
            return
        record = as_object(event)
        if self._private is not None:
            words = _words(self._private())
            record |= {name: _masked(record[name], words) for name in FREE if name in record}
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = line_of({"time": time, "level": _level(event), **record}) + "\n"
        try:
            with self._path.open("a", encoding="ascii") as file:
                file.write(line)
        except OSError as error:
            if not self._failed:
                print(f"warning: the log {self._path} is incomplete: {error.strerror}", file=sys.stderr)
            self._failed = True


def _level(event: Event) -> str:
    return "error" if isinstance(event, Failure) else "warning" if isinstance(event, Caution) else "info"


def _words(texts: Iterable[str]) -> set[str]:
    """Return the words of texts, also without accents, as names of files have them."""
    whole = " ".join(texts)
    plain = unicodedata.normalize("NFKD", whole).encode("ascii", "ignore").decode()
    return {piece.casefold() for piece in PIECE.findall(f"{whole} {plain}")}


def _masked(value: object, words: set[str]) -> object:
    if isinstance(value, str):
        return PIECE.sub(lambda match: "***" if _is_private(match[0].casefold(), words) else match[0], value)
    if isinstance(value, Mapping):
        return {name: _masked(item, words) for name, item in value.items() if name not in PROMPTS}
    if isinstance(value, list | tuple):
        return [_masked(item, words) for item in value]
    return value


def _is_private(piece: str, words: set[str]) -> bool:
    if not piece.isascii():
        return piece in words
    # A name of a file may end within a word.
    return len(piece) >= MIN_LETTERS and any(word.startswith(piece) for word in words)
