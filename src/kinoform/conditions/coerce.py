"""Inputs from what people hand over: paths, images of Pillow, arrays; and from what a video records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from kinoform.conditions.input_kinds import ReadOptions, pairs_of
from kinoform.conditions.inputs import InputField, Inputs, by_name
from kinoform.errors import UsageError, nearest

InputKwargs: TypeAlias = Mapping[str, object]
"""Values by the names of fields, and of parts of them (`image` is a part of `frames`); None for those not given."""


def to_inputs(fields: Iterable[InputField[Any]], values: InputKwargs, options: ReadOptions | None = None) -> Inputs:
    """Read the values of fields; see the kinds for what stands for a value.

    Raises UsageError for a name that no field has, for files that are missing or cannot be read, and for values that
    are not of the field's kind.
    """
    given, options = _gathered(fields, values), options or ReadOptions()
    read: dict[InputField[Any], Any] = {}
    for item in sorted(given, key=lambda item: item.kind.after is not None):
        others = {field.name: value for field, value in read.items()}
        read[item] = item.kind.read(given[item], item.said, replace(options, others=others))
    return Inputs({item: read[item] for item in given})


def split(fields: Iterable[InputField[Any]], values: InputKwargs) -> tuple[dict[str, object], dict[str, object]]:
    """Return the values of fields, and those of other names."""
    names = frozenset(name for item in fields for name in (item.name, *item.kind.shorthands))
    ours = {name: value for name, value in values.items() if name in names}
    return ours, {name: value for name, value in values.items() if name not in names}


def restored(
    fields: Iterable[InputField[Any]], files: Mapping[str, Path], records: Mapping[str, object], options: ReadOptions
) -> Inputs:
    """Read the inputs that a video was made from, by the keys of `Inputs.files` and `Inputs.records`.

    Raises UsageError for a key that no field has, and for a record that is not of the field's kind.
    """
    named = by_name(fields)
    keys = {item.key: item for item in named.values()}
    parts: dict[InputField[Any], dict[str, Path]] = {}
    for key, path in files.items():
        name, _, number = key.partition(":")
        parts.setdefault(_known(keys, name), {})[number] = path
    plain = {_known(named, name): value for name, value in records.items()}
    values = {item.name: item.kind.restore(parts.get(item, {}), plain.get(item)) for item in (parts | plain)}
    return to_inputs(named.values(), values, options)


def _gathered(fields: Iterable[InputField[Any]], values: InputKwargs) -> dict[InputField[Any], object]:
    """Values by field, parts of a field put together; in the order of the fields."""
    named = by_name(fields)
    parts = {name: (item, number) for item in named.values() for name, (number, _) in item.kind.shorthands.items()}
    result: dict[InputField[Any], Any] = {}
    for name, value in values.items():
        if name not in named and name not in parts:
            raise unknown_input(name, named.values())
        if value is None:
            continue
        if name in named:
            before = result.get(named[name])
            result[named[name]] = value if before is None else [*before, *pairs_of(value)]
        else:
            item, number = parts[name]
            result[item] = [*pairs_of(result.get(item, ())), (number, value)]
    return {item: result[item] for item in named.values() if item in result}


def unknown_input(name: str, fields: Iterable[InputField[Any]]) -> UsageError:
    """Return the refusal of a name that no field has, with the nearest name and all others."""
    names = [name for item in fields for name in (item.name, *item.kind.shorthands)]
    return UsageError(f"there is no input {name!r}; {nearest(name, names)}", code="input_unknown")


def _known(fields: Mapping[str, InputField[Any]], name: str) -> InputField[Any]:
    if name not in fields:
        raise UsageError(f"it was made from a {name[:40]!r}, which this model cannot take", code="input_not_taken")
    return fields[name]
