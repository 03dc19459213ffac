"""Tables of items: JSON lines, CSV, and a JSON list; columns by the names that trainers give them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

from kinoform.conditions.inputs import InputField
from kinoform.datasets.item import Dataset, DatasetItem
from kinoform.datasets.own_inputs import NONE, OwnInputs, OwnValue, own_value
from kinoform.errors import UsageError, nearest
from kinoform.files import check_no_link

TABLES = (".jsonl", ".csv", ".json")
EMPTY: tuple[object, ...] = (None, "", [])
MAX_BYTES = 1_000_000_000

COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(
        ("target", "video", "video_path", "image", "image_path", "file_path", "file_name", "path"), "target"
    ),
    **dict.fromkeys(("caption", "prompt", "text", "cap"), "caption"),
    **dict.fromkeys(
        ("source", "vace_video", "control_video", "control_path", "control_file_path", "source_video"), "source"
    ),
    **dict.fromkeys(("mask", "vace_video_mask", "mask_path"), "mask"),
    **dict.fromkeys(("references", "reference", "reference_image", "vace_reference_image"), "references"),
    **dict.fromkeys(("first", "input_image", "first_image"), "first"),
    **dict.fromkeys(("last", "end_image", "last_image"), "last"),
    "repeats": "repeats",
    "num_repeats": "repeats",
}
"""The role of each column."""

IDLE = frozenset({"type", "id", "width", "height", "fps", "num_frames", "frames", "duration", "resolution"})
"""Columns that others write and that the files themselves tell."""

ELSEWHERE = frozenset({
    "input_audio", "animate_pose_video", "animate_face_video", "animate_inpaint_video", "animate_mask_video",
    "camera_control_direction", "camera_control_speed", "motion_bucket_id", "s2v_pose_video", "subject_ref",
    "object_file_path", "mask_file_path", "audio_path",
})  # fmt: skip
"""Columns of other trainers for models that kinoform does not train on clips: refused by name, never left out."""


def table_dataset(path: Path, own: OwnInputs = NONE) -> Dataset:
    """Read a table whose files are named as seen from its folder; `own` are further columns, by the model's inputs.

    Raises UsageError for columns that are unknown or given twice, rows without a target, and files that are missing.
    """
    rows, notes = _rows(path), list[str]()
    items = tuple(_item(path, number, row, own, notes) for number, row in enumerate(rows, start=1))
    return Dataset(path=path, form=path.suffix.lower()[1:], items=items, notes=tuple(dict.fromkeys(notes)))


def _rows(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is above 1 GB; split it", code="file_too_large")
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        if path.suffix.lower() == ".jsonl":
            rows = [_line(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        else:
            rows = json.loads(text)
    except UsageError:
        raise
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as a table: {error}", code="dataset_damaged") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in cast("list[object]", rows)):
        raise UsageError(f"{path} is no list of rows with named columns", code="dataset_damaged")
    return cast("list[dict[str, Any]]", rows)


def _line(number: int, line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number}: {error}") from error


def _item(path: Path, number: int, row: Mapping[str, Any], own: OwnInputs, notes: list[str]) -> DatasetItem:
    values: dict[str, Any] = {}
    others: list[tuple[str, OwnValue]] = []
    for column, value in row.items():
        if column in IDLE:
            notes.append(f"the column {column} of {path.name} is not read: the files tell it")
            continue
        if not isinstance(column, str):  # what csv calls the values behind the last column
            raise UsageError(
                f"{path}, row {number} has more values than there are columns; put text with commas into quotes",
                code="dataset_damaged",
            )
        if column in ELSEWHERE and value not in EMPTY:
            raise UsageError(
                f"{path}, row {number}: the column {column} is for a model that cannot be trained from clips here; "
                "leave it out, or empty",
                code="dataset_key_not_read",
            )
        if column in own and column not in COLUMNS:
            if value not in EMPTY:
                others.append((column, _own(path, number, own[column], value)))
            continue
        if column not in COLUMNS and column not in ELSEWHERE:
            raise UsageError(
                f"{path}, row {number}: there is no column {column[:60]!r}; {nearest(column[:60], {*COLUMNS, *own})}",
                code="dataset_column_unknown",
            )
        if value in EMPTY:
            continue
        if (role := COLUMNS[column]) in values:
            raise UsageError(
                f"{path}, row {number}: two columns say the {role}, {column} is one; leave one out",
                code="dataset_column_twice",
            )
        values[role] = value
    if "target" not in values:
        raise UsageError(f"{path}, row {number} has no target: name its video or image", code="dataset_row_incomplete")
    files = {
        role: _files(path, number, role, values.get(role)) for role in ("target", "source", "mask", "first", "last")
    }
    (target,) = files.pop("target")
    return DatasetItem(
        name=str(values["target"]),
        target=target,
        caption=" ".join(str(_first(values.get("caption", ""))).split()),
        references=_files(path, number, "references", values.get("references")),
        repeats=_repeats(path, number, values.get("repeats", 1)),
        own=tuple(sorted(others, key=itemgetter(0))),
        **{role: found[0] if found else None for role, found in files.items()},
    )


def _own(path: Path, number: int, field: InputField[Any], value: object) -> OwnValue:
    try:
        return own_value(field, value, path.parent)
    except UsageError as error:
        raise UsageError(f"{path}, row {number}: {error}", code=error.code) from error


def _first(caption: object) -> object:
    """Return the first of several captions, as FastVideo lists them."""
    return cast("list[object]", caption)[0] if isinstance(caption, list) and caption else caption


def _files(path: Path, number: int, role: str, value: object) -> tuple[Path, ...]:
    if value is None:
        return ()
    names = cast("list[object]", value) if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names) or (role != "references" and len(names) != 1):
        raise UsageError(
            f"{path}, row {number}: the {role} is {str(value)[:60]!r}, not the name of a file",
            code="dataset_row_incomplete",
        )
    files = tuple(_seen_from(path.parent, str(name)) for name in names)
    for name, file in zip(names, files, strict=True):
        check_no_link(str(name))
        if not file.exists():
            raise UsageError(
                f"{path}, row {number}: the {role} {file} is not there; names are read as seen from the table's folder",
                code="file_missing",
            )
    return files


def _seen_from(folder: Path, name: str) -> Path:
    """Return a file as its table means it; FastVideo's tables lie beside the folder `videos`."""
    within = folder / "videos" / name
    return within if not (folder / name).exists() and within.exists() else folder / name


def _repeats(path: Path, number: int, value: object) -> int:
    text = str(value)
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise UsageError(
            f"{path}, row {number}: repeats must be 1 or more, not {text[:20]!r}", code="value_out_of_range"
        )
    return int(text)
