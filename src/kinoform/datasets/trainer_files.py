"""Dataset files of other trainers: the TOML files of musubi-tuner and of diffusion-pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from kinoform.datasets.asked import DatasetSettings
from kinoform.datasets.folder import folder_dataset
from kinoform.datasets.item import Dataset, DatasetItem
from kinoform.datasets.table import table_dataset
from kinoform.errors import UsageError, nearest
from kinoform.files import missing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

Table = Mapping[str, Any]

FOLDERS = ("video_directory", "image_directory", "video_jsonl_file", "image_jsonl_file")
SHARED = frozenset({
    "resolution", "caption_extension", "batch_size", "enable_bucket", "bucket_no_upscale", "num_repeats",
})  # fmt: skip
MUSUBI = SHARED | {
    *FOLDERS, "cache_directory", "control_directory", "target_frames", "frame_extraction", "frame_stride",
    "frame_sample", "max_frames", "source_fps",
}  # fmt: skip
PIPE_GENERAL = frozenset({
    "resolutions", "enable_ar_bucket", "min_ar", "max_ar", "num_ar_buckets", "ar_buckets", "frame_buckets",
    "num_repeats", "skip_empty_caption", "caption_prefix",
})  # fmt: skip
PIPE = PIPE_GENERAL | {"path", "mask_path"}

IDLE = {
    "cache_directory": "kinoform keeps a cache of its own",
    "bucket_no_upscale": "clips are brought to the area of the buckets, small ones too",
    "min_ar": "buckets have nine proportions from 1:2 to 2:1",
    "max_ar": "buckets have nine proportions from 1:2 to 2:1",
    "num_ar_buckets": "buckets have nine proportions from 1:2 to 2:1",
    "ar_buckets": "buckets have nine proportions from 1:2 to 2:1",
    "skip_empty_caption": "items without a caption are refused by name",
    "source_fps": "the files themselves tell their frame rate",
    "max_frames": "--clips says which frames of a long video are learnt",
}
"""Keys that are known and not followed, and why: said aloud where they stand."""

RULES = {"head": "head", "chunk": "all", "slide": "sliding", "uniform": "random", "full": "head"}
"""The rule of clips for each of musubi's frame extractions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Items and settings of one folder or table of a file."""

    items: tuple[DatasetItem, ...]
    asked: DatasetSettings
    notes: tuple[str, ...]


def trainer_dataset(path: Path) -> Dataset:
    """Read a musubi file, which has [[datasets]], or one of diffusion-pipe, which has [[directory]].

    Folders are named as seen from the file's. Raises UsageError for unknown keys, and for settings of several folders
    that cannot be joined.
    """
    try:
        parsed = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}", code="dataset_damaged") from error
    if "datasets" in parsed:
        parts, form = _musubi(path, parsed), "musubi"
    elif "directory" in parsed:
        parts, form = _pipe(path, parsed), "diffusion-pipe"
    else:
        raise UsageError(
            f"{path} is no dataset file: musubi's has [[datasets]], diffusion-pipe's [[directory]]",
            code="dataset_unknown",
        )
    asked = DatasetSettings()
    for part in parts:
        asked = asked.joined(part.asked, str(path))
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return Dataset(
        path=path, form=form, items=tuple(item for part in parts for item in part.items), notes=tuple(notes),
        asked=asked,
    )  # fmt: skip


def _musubi(path: Path, parsed: Table) -> list[_Part]:
    _check_keys(path, "", parsed, {"general", "datasets"})
    general = _checked(path, "[general] ", parsed.get("general", {}), SHARED)
    parts: list[_Part] = []
    for number, table in enumerate(_tables(path, parsed["datasets"], "datasets"), start=1):
        place = f"[[datasets]] {number}: "
        given = general | _checked(path, place, table, MUSUBI)
        sources = [key for key in FOLDERS if key in given]
        if len(sources) != 1:
            raise UsageError(
                f"{path}: {place}name one of {', '.join(FOLDERS)}",
                code="dataset_row_incomplete",
            )
        _check_captions(path, place, given)
        if "control_directory" in given:
            raise UsageError(
                f"{path}: {place}control_directory is not read; put each control video beside its clip as "
                "NAME.source.mp4, or name it in a table in the column control_path",
                code="dataset_key_not_read",
            )
        stills = sources[0].startswith("image")
        frames = None if stills else tuple(_trimmed(path, place, given.get("target_frames")))
        asked = DatasetSettings(
            size=_pair(path, place, "resolution", given.get("resolution")),
            one_size=None if "enable_bucket" not in given else not given["enable_bucket"],
            frames=frames or None,
            rule=None if stills else _rule(path, place, given),
            batch=given.get("batch_size"),
        )
        parts.append(_part(path, Path(given[sources[0]]), given, asked))
    return parts


def _pipe(path: Path, parsed: Table) -> list[_Part]:
    _check_keys(path, "", parsed, PIPE_GENERAL | {"directory"})
    general = {key: value for key, value in parsed.items() if key != "directory"}
    parts: list[_Part] = []
    for number, table in enumerate(_tables(path, parsed["directory"], "directory"), start=1):
        place = f"[[directory]] {number}: "
        given = general | _checked(path, place, table, PIPE)
        if "path" not in given:
            raise UsageError(f"{path}: {place}has no path", code="dataset_row_incomplete")
        if "mask_path" in given or given.get("caption_prefix"):
            raise UsageError(
                f"{path}: {place}mask_path (a mask of the loss) and caption_prefix are not read; leave them out",
                code="dataset_key_not_read",
            )
        sizes = given.get("resolutions")
        asked = DatasetSettings(
            size=None if sizes is None else _pair(path, place, "resolutions", _only(path, place, "resolutions", sizes)),
            one_size=None if "enable_ar_bucket" not in given else not given["enable_ar_bucket"],
            frames=tuple(number for number in given.get("frame_buckets", ()) if number > 1) or None,
        )
        parts.append(_part(path, Path(given["path"]), given, asked))
    return parts


def _part(file: Path, place: Path, given: Table, asked: DatasetSettings) -> _Part:
    found = file.parent / place
    if not found.exists():
        raise missing(found)
    dataset = folder_dataset(found) if found.is_dir() else table_dataset(found)
    repeats = given.get("num_repeats", 1)
    items = tuple(
        replace(item, name=f"{place}/{item.name}", repeats=item.repeats * int(repeats)) for item in dataset.items
    )
    idle = tuple(f"{key} of {file.name} is not followed: {why}" for key, why in IDLE.items() if key in given)
    return _Part(items=items, asked=asked, notes=(*dataset.notes, *idle))


def _tables(path: Path, value: object, name: str) -> Sequence[Table]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in cast("list[object]", value)):
        raise UsageError(f"{path}: {name} is no list of tables; write [[{name}]]", code="dataset_damaged")
    return cast("list[dict[str, Any]]", value)


def _checked(path: Path, place: str, table: object, known: frozenset[str]) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {place}is no table", code="dataset_damaged")
    values = cast("dict[str, Any]", table)
    _check_keys(path, place, values, known)
    return dict(values)


def _check_keys(path: Path, place: str, table: Table, known: frozenset[str] | set[str]) -> None:
    for key in table:
        if key not in known:
            raise UsageError(
                f"{path}: {place}there is no key {key[:60]!r}; {nearest(key[:60], known)}", code="dataset_key_unknown"
            )


def _check_captions(path: Path, place: str, given: Table) -> None:
    if given.get("caption_extension", ".txt") != ".txt":
        raise UsageError(
            f"{path}: {place}caption_extension is {str(given['caption_extension'])[:20]!r}, and captions are read from "
            ".txt files",
            code="dataset_key_not_read",
        )


def _trimmed(path: Path, place: str, frames: object) -> list[int]:
    """Return lengths as musubi takes them: trimmed to 1 + 4 n; a single frame is for images."""
    if frames is None:
        return []
    if not isinstance(frames, list) or not all(type(item) is int and item > 0 for item in cast("list[object]", frames)):
        raise UsageError(f"{path}: {place}target_frames is no list of numbers", code="wrong_type")
    return sorted({number - (number - 1) % 4 for number in cast("list[int]", frames)} - {1})


def _rule(path: Path, place: str, given: Table) -> str | None:
    name = given.get("frame_extraction")
    if name is None:
        return None
    if name not in RULES:
        raise UsageError(
            f"{path}: {place}no frame_extraction {str(name)[:30]!r}; {nearest(str(name), RULES)}", code="unknown_name"
        )
    number = given.get({"slide": "frame_stride", "uniform": "frame_sample"}.get(name, ""))
    return RULES[name] if number is None else f"{RULES[name]}={number}"


def _only(path: Path, place: str, key: str, values: object) -> object:
    if not isinstance(values, list) or len(cast("list[object]", values)) != 1:
        raise UsageError(
            f"{path}: {place}{key} must be a list of one size; train once for each other",
            code="dataset_settings_differ",
        )
    return cast("list[object]", values)[0]


def _pair(path: Path, place: str, key: str, value: object) -> tuple[int, int] | None:
    """Return (width, height) of a pair, or of the side of a square."""
    if value is None:
        return None
    sides = cast("list[object]", value) if isinstance(value, list) else [value, value]
    if len(sides) != 2 or not all(type(side) is int and 0 < side < 100_000 for side in sides):
        raise UsageError(f"{path}: {place}{key} is {str(value)[:40]!r}, no width and height", code="wrong_type")
    width, height = cast("list[int]", sides)
    return width, height
