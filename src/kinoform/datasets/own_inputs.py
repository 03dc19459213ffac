"""Inputs that a model has besides those of the usual roles: a column, or a file beside a clip, by the input's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

from kinoform.conditions.input_kinds import ReadOptions
from kinoform.conditions.inputs import InputField
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.errors import UsageError

OwnInputs: TypeAlias = Mapping[str, InputField[Any]]
"""Inputs by their names."""

OwnValue: TypeAlias = tuple[Path, ...] | str | float | bool
"""Value of an input in a dataset: files that are still to be read, or what it says itself."""

USUAL = frozenset({FRAMES, VIDEO, MASK, REFERENCE_IMAGES, EXACT_SIZE})
"""Inputs that the usual roles become."""

NONE: OwnInputs = {}


def own_inputs(takes: Iterable[InputField[Any]]) -> OwnInputs:
    """Return the inputs of a model that no usual role becomes."""
    return {field.name: field for field in takes if field not in USUAL}


def is_file(field: InputField[Any]) -> bool:
    """Tell whether an input is given by files."""
    return field.kind.option is Path


def own_value(field: InputField[Any], value: object, folder: Path) -> OwnValue:
    """Return the value of an input that a row gives; files are named as seen from the folder.

    Raises UsageError for a file that is missing, and for what is no value of the input.
    """
    if not is_file(field):
        given = field.kind.parse([value], field.said) if isinstance(value, str) else value
        return cast("OwnValue", field.kind.read(given, field.said, ReadOptions()))
    names = cast("list[object]", value) if isinstance(value, list) else [value]
    files = tuple(folder / str(name) for name in names)
    field.kind.parse(files, field.said)
    for file in files:
        if not file.exists():
            raise UsageError(f"the {field.said} {file} is not there", code="file_missing")
    return files


def read_own(field: InputField[Any], value: OwnValue, options: ReadOptions) -> Any:
    """Return what a request would hold. Raises UsageError for files that cannot be read."""
    given = field.kind.parse(value, field.said) if isinstance(value, tuple) else value
    return field.kind.read(given, field.said, options)
