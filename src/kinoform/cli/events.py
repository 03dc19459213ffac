"""What a run tells of itself: events, which people, programs and the log hear each in their own way."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A command begins. `options` are those given by flag, environment or file, without any prompt."""

    event: ClassVar[str] = "started"
    command: str
    version: str
    options: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A kind of work of `total` pieces begins; `item` of `items` where it comes once for each of several videos."""

    event: ClassVar[str] = "stage"
    stage: str
    total: int
    item: int | None
    items: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`step` of `total` pieces are done, after `seconds` of this stage; `seconds_left` is None where unknown."""

    event: ClassVar[str] = "step"
    stage: str
    step: int
    total: int
    item: int | None
    items: int | None
    seconds: float
    seconds_left: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Worth knowing."""

    event: ClassVar[str] = "note"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """The work goes on, but perhaps not as meant."""

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


Event: TypeAlias = Started | Stage | Step | Note | Caution | Result | Failure | Finished
EVENTS = (Started, Stage, Step, Note, Caution, Result, Failure, Finished)


def as_object(event: Event) -> dict[str, object]:
    """The event for programs: its kind under `event`, then its fields."""
    return {"event": event.event, **{field.name: getattr(event, field.name) for field in fields(event)}}


def line_of(told: Mapping[str, object]) -> str:
    """One line of JSON in ASCII. NaN and the infinities, for which JSON has no numbers, become null."""
    try:
        return json.dumps(told, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(told), default=str, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
