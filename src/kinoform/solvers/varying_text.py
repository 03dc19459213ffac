"""Numbers of a run as text and as JSON: 4, or 0@0-0.3,1@0.3-1, alone or under names; read and written here alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, cast

from kinoform.errors import UsageError
from kinoform.numbers import check_kind, real_of
from kinoform.solvers.schedule import (
    RunSchedule,
    SchedulePiece,
    Span,
    StepShare,
    TimestepRange,
    Varying,
)

Jsonable: TypeAlias = float | list[dict[str, Any]]

POSITIVE = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
SPAN = re.compile(rf"(t?)({POSITIVE})-({POSITIVE})", re.IGNORECASE)
VALUE = "value"
SPAN_KEYS: Mapping[str, type[StepShare] | type[TimestepRange]] = {"steps": StepShare, "timesteps": TimestepRange}
"""Keys of a piece of a schedule in JSON."""

EXAMPLE = "write for example 4, high=4,low=3, 0@0-0.3,1@0.3-1, or 1@t900-1000,0@t0-900"


def expert_names(count: int) -> tuple[str, ...]:
    """Return the names of so many experts, that of the highest noise first: high and low, or 1, 2, 3 and so on."""
    return ("high", "low") if count == 2 else tuple(str(number) for number in range(1, count + 1))


def read_entries(option: str, text: str) -> dict[str, Varying]:
    """Return the numbers of a text by their names, which are not checked; the name of those without one is "".

    The pieces of one schedule stand under one name. Raises UsageError, with `option`, for text that is no number, gaps,
    overlaps and NaN in a schedule, numbers with names among others without, and a name that is said twice.
    """
    entries = [_entry(option, text, item) for item in text.split(",")]
    names = list(dict.fromkeys(name for name, _, _ in entries))
    if "" in names and len(names) > 1:
        raise _unreadable(option, text)
    return {
        name: _together(option, text, name, [(value, span) for item, value, span in entries if item == name])
        for name in names
    }


def read_schedule(text: str) -> RunSchedule:
    """Return the schedule of a text such as 0@0-0.3,1@0.3-1, or 1@t900-1000,0@t0-900. Raises UsageError for others."""
    check_kind("the schedule", text, str, '"0@0-0.3,1@0.3-1"')
    schedule = read_entries("the schedule", text).get("")
    if not isinstance(schedule, RunSchedule):
        raise _unreadable("the schedule", text)
    return schedule


def written_entries(numbers: Iterable[tuple[str, Varying]]) -> str:
    """Return numbers as `read_entries` reads them."""
    return ",".join(piece for name, value in numbers for piece in _pieces(f"{name}=" if name else "", value))


def number_as_json(value: Varying) -> Jsonable:
    """Return a number, or the pieces of a schedule as objects. Functions are written as `schedule.fixed` makes them."""
    if not isinstance(value, RunSchedule):
        assert not callable(value)
        return value
    return [
        {
            VALUE: piece.value,
            **{key: list(piece.span.bounds) for key, kind in SPAN_KEYS.items() if type(piece.span) is kind},
        }
        for piece in value.pieces
    ]


def number_from_json(name: str, value: object) -> float | RunSchedule:
    """Return the number or the schedule that `number_as_json` wrote. Raises UsageError, with `name`, for others."""
    if not isinstance(value, list):
        return _json_number(name, value)
    return _scheduled(name, [_piece_from_json(name, item) for item in cast("list[object]", value)])


def looks_written(text: str) -> bool:
    """Return whether a text is meant as numbers: each item between commas has a number after its name, if it has one.

    What comes behind an @ is not looked at.
    """
    return all(_number(item.rpartition("=")[2].partition("@")[0]) is not None for item in text.split(","))


def _entry(option: str, text: str, item: str) -> tuple[str, float, Span | None]:
    name, equals, number = item.rpartition("=")
    value, at, span = number.partition("@")
    parsed, match = _number(value), SPAN.fullmatch(span.strip())
    if parsed is None or (equals and not name.strip()) or (at and not match):
        raise _unreadable(option, text)
    if match is None:
        return name.strip(), parsed, None
    kind = TimestepRange if match[1] else StepShare
    return name.strip(), parsed, _span(f"{option} {text[:60]}", kind, float(match[2]), float(match[3]))


def _span(begin: str, kind: type[StepShare] | type[TimestepRange], first: float, last: float) -> Span:
    try:
        return StepShare(start=first, end=last) if kind is StepShare else TimestepRange(low=first, high=last)
    except UsageError as error:
        raise UsageError(f"{begin}: {error}", code=error.code) from error


def _together(option: str, text: str, name: str, entries: list[tuple[float, Span | None]]) -> Varying:
    """Return one number of all the run, or the schedule that the entries of one name make."""
    pieces = [(value, span) for value, span in entries if span is not None]
    if not pieces and len(entries) == 1:
        return entries[0][0]
    if not name and not pieces:
        named = zip(expert_names(len(entries)), (value for value, _ in entries), strict=True)
        raise UsageError(
            f"{option} {text[:60]} does not say which transformer each number is for; write for example "
            f"{written_entries(named)}",
            code="expert_not_said",
        )
    if len(pieces) < len(entries):
        raise UsageError(f"{option} {text[:60]} says {name or 'a number'} twice; say it once", code="said_twice")
    return _scheduled(f"{option} {text[:60]}", pieces)


def _scheduled(begin: str, pieces: list[tuple[float, Span]]) -> RunSchedule:
    try:
        return RunSchedule(pieces=tuple(SchedulePiece(value=value, span=span) for value, span in pieces))
    except UsageError as error:
        raise UsageError(f"{begin}: {error}", code=error.code) from error


def _unreadable(option: str, text: str) -> UsageError:
    return UsageError(
        f"{option} must be a number, one for each transformer of a model, or a schedule of them, not {text[:60]!r}; "
        f"{EXAMPLE}",
        code="bad_value",
    )


def _pieces(name: str, value: Varying) -> list[str]:
    if isinstance(value, RunSchedule):
        return [f"{name}{_plain(piece.value)}@{piece.span}" for piece in value.pieces]
    return [f"{name}{'(a function)' if callable(value) else _plain(value)}"]


def _plain(number: float) -> str:
    return str(number).removesuffix(".0")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _piece_from_json(name: str, item: object) -> tuple[float, Span]:
    piece = dict(cast("Mapping[str, object]", item)) if isinstance(item, Mapping) else dict[str, object]()
    for key, kind in SPAN_KEYS.items():
        bounds = cast("list[object]", piece[key]) if isinstance(piece.get(key), list) else []
        if piece.keys() == {VALUE, key} and len(bounds) == 2:
            first, last = (_json_number(name, bound) for bound in bounds)
            return _json_number(name, piece[VALUE]), _span(name, kind, first, last)
    raise _not_json(name, cast(object, item))


def _json_number(name: str, value: object) -> float:
    number = None if isinstance(value, str) else real_of(value)
    if number is None:
        raise _not_json(name, value)
    return number


def _not_json(name: str, value: object) -> UsageError:
    return UsageError(
        f"{name} is {str(value)[:60]}, which is no number, and no piece of a schedule such as "
        f'{{"value": 1.0, "steps": [0.3, 1.0]}}',
        code="metadata_damaged",
    )
