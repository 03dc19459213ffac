"""Dataset files of other trainers: the TOML files of musubi-tuner and of diffusion-pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from kinoform.datasets.asked import DatasetSettings
from kinoform.datasets.buckets import ClipLengths
from kinoform.datasets.folder import folder_dataset, with_sources
from kinoform.datasets.item import Dataset, DatasetItem
from kinoform.datasets.own_inputs import NONE, OwnInputs
from kinoform.datasets.table import table_dataset
from kinoform.errors import UsageError, nearest
from kinoform.files import missing
from kinoform.numbers import whole

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

Table = Mapping[str, Any]

FOLDERS = ("video_directory", "image_directory", "video_jsonl_file", "image_jsonl_file")
SHARED = frozenset({
    "resolution", "caption_extension", "batch_size", "enable_bucket", "bucket_no_upscale", "num_repeats",
    "skip_corrupted_cache",
})  # fmt: skip
MUSUBI = SHARED | {
    *FOLDERS, "cache_directory", "control_directory", "target_frames", "frame_extraction", "frame_stride",
    "frame_sample", "max_frames", "source_fps", "multiple_target", "no_resize_control", "control_resolution",
    "fp_latent_window_size", "fp_1f_clean_indices", "fp_1f_target_index", "fp_1f_no_post",
}  # fmt: skip
PIPE_GENERAL = frozenset({
    "resolutions", "enable_ar_bucket", "min_ar", "max_ar", "num_ar_buckets", "ar_buckets", "frame_buckets",
    "num_repeats", "skip_empty_caption", "caption_prefix", "size_buckets", "cache_shuffle_num",
    "cache_shuffle_delimiter", "shuffle_metadata", "online_captions",
})  # fmt: skip
PIPE = PIPE_GENERAL | {"path", "mask_path", "control_path", "default_mask_file"}

IDLE = {
    "cache_directory": "kinoform keeps a cache of its own",
    "bucket_no_upscale": "clips are brought to the area of the buckets, small ones too",
    "min_ar": "buckets have nine proportions from 1:2 to 2:1",
    "max_ar": "buckets have nine proportions from 1:2 to 2:1",
    "num_ar_buckets": "buckets have nine proportions from 1:2 to 2:1",
    "ar_buckets": "buckets have nine proportions from 1:2 to 2:1",
    "skip_empty_caption": "items without a caption are refused by name",
    "source_fps": "videos tell their frame rate themselves, and folders of frames are taken at the model's",
    "max_frames": "--clips says which frames of a long video are learnt",
    "skip_corrupted_cache": "kinoform keeps a cache of its own",
    "no_resize_control": "sources are cropped and resized as their targets are",
    "control_resolution": "sources are cropped and resized as their targets are",
    "fp_latent_window_size": "it is FramePack's",
    "fp_1f_clean_indices": "it is FramePack's",
    "fp_1f_target_index": "it is FramePack's",
    "fp_1f_no_post": "it is FramePack's",
    "shuffle_metadata": "each epoch has an order of its own",
    "online_captions": "captions.json is read in any case",
    "cache_shuffle_num": "captions are learnt as they stand",
    "cache_shuffle_delimiter": "captions are learnt as they stand",
}
"""Keys that are known and not followed, and why: said aloud where they stand."""

REFUSED = {
    "multiple_target": "images of several targets", "mask_path": "a mask of the loss",
    "default_mask_file": "a mask of the loss", "size_buckets": "sizes one by one",
}  # fmt: skip
"""Keys that ask for something else to be learnt than kinoform can: refused, and what they are."""

RULES = {"head": "head", "chunk": "all", "slide": "sliding", "uniform": "spread", "full": "head"}
"""The rule of clips for each of musubi's frame extractions."""

NUMBERS = {"slide": "frame_stride", "uniform": "frame_sample"}
"""The key that tells an extraction's number, which is 1 where it is not there."""

OTHERWISE = {
    "chunk": "the last clip of a video ends with it, and may share frames with the one before",
    "full": "clips of a batch have one length, so that videos are learnt from their heads",
}
"""Differences to musubi's frame extractions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Items and settings of one folder or table of a file."""

    items: tuple[DatasetItem, ...]
    asked: DatasetSettings
    notes: tuple[str, ...]


def trainer_dataset(path: Path, own: OwnInputs = NONE) -> Dataset:
    """Read a musubi file, which has [[datasets]], or one of diffusion-pipe, which has [[directory]].

    Folders are named as seen from the file's. Raises UsageError for unknown keys, and for settings of several folders
    that cannot be joined.
    """
    try:
        parsed = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}", code="dataset_damaged") from error
    if "datasets" in parsed:
        parts, form = _musubi(path, parsed, own), "musubi"
    elif "directory" in parsed:
        parts, form = _pipe(path, parsed, own), "diffusion-pipe"
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


def _musubi(path: Path, parsed: Table, own: OwnInputs) -> list[_Part]:
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
        _check_refused(path, place, given)
        stills = sources[0].startswith("image")
        lengths, notes = ([], []) if stills else _lengths(path, place, given)
        asked = DatasetSettings(
            sizes=_sizes(path, place, "resolution", [given["resolution"]] if "resolution" in given else None),
            one_size=not given.get("enable_bucket", False),
            lengths=ClipLengths(frames=tuple(lengths), each=len(lengths) > 1) if lengths else None,
            rule=None if stills else _rule(path, place, given),
            batch=whole(f"{path}: {place}batch_size", given.get("batch_size", 1), 1, 10_000)
            if "batch_size" in given
            else None,
        )
        part = _part(path, place, sources[0], given, asked, own, "control_directory")
        parts.append(replace(part, notes=(*part.notes, *notes)))
    return parts


def _pipe(path: Path, parsed: Table, own: OwnInputs) -> list[_Part]:
    _check_keys(path, "", parsed, PIPE_GENERAL | {"directory"})
    general = {key: value for key, value in parsed.items() if key != "directory"}
    parts: list[_Part] = []
    for number, table in enumerate(_tables(path, parsed["directory"], "directory"), start=1):
        place = f"[[directory]] {number}: "
        given = general | _checked(path, place, table, PIPE)
        if "path" not in given:
            raise UsageError(f"{path}: {place}has no path", code="dataset_row_incomplete")
        _check_refused(path, place, given)
        lengths = tuple(number for number in _counts(path, place, "frame_buckets", given) if number > 1)
        asked = DatasetSettings(
            sizes=_sizes(path, place, "resolutions", given.get("resolutions")),
            one_size=not given.get("enable_ar_bucket", False),
            lengths=ClipLengths(frames=lengths) if lengths else None,
        )
        parts.append(_part(path, place, "path", given, asked, own, "control_path"))
    return parts


def _part(
    file: Path, place: str, key: str, given: Table, asked: DatasetSettings, own: OwnInputs, control: str
) -> _Part:
    """Read the folder or table that `key` names, with sources from the folder that `control` names, if it does."""
    folder = _text(file, place, key, given)
    found = file.parent / folder
    if not found.exists():
        raise missing(found)
    text = _text(file, place, "caption_extension", given, ".txt")
    dataset = folder_dataset(found, text=text, own=own) if found.is_dir() else table_dataset(found, own)
    if control in given:
        dataset = with_sources(dataset, file.parent / _text(file, place, control, given))
    repeats = whole(f"{file}: {place}num_repeats", given.get("num_repeats", 1), 1, 100_000)
    prefix = _text(file, place, "caption_prefix", given, "")
    items = tuple(
        replace(
            item,
            name=f"{folder}/{item.name}",
            repeats=item.repeats * repeats,
            caption=f"{prefix}{item.caption}" if item.caption else "",
        )
        for item in dataset.items
    )
    idle = tuple(f"{key} of {file.name} is not followed: {why}" for key, why in IDLE.items() if key in given)
    return _Part(items=items, asked=asked, notes=(*dataset.notes, *idle))


def _text(path: Path, place: str, key: str, given: Table, usual: str | None = None) -> str:
    value = given.get(key, usual)
    if not isinstance(value, str):
        raise UsageError(f"{path}: {place}{key} is {str(value)[:40]!r}, no text in quotes", code="wrong_type")
    return value


def _counts(path: Path, place: str, key: str, given: Table) -> list[int]:
    """Return a list of numbers above 0, in order and each once; none where the key is not there."""
    value = given.get(key, [])
    if not isinstance(value, list) or not all(type(item) is int and item > 0 for item in cast("list[object]", value)):
        raise UsageError(f"{path}: {place}{key} is {str(value)[:40]!r}, no list of numbers", code="wrong_type")
    return sorted(set(cast("list[int]", value)))


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


def _check_refused(path: Path, place: str, given: Table) -> None:
    for key, meaning in REFUSED.items():
        if given.get(key):
            raise UsageError(
                f"{path}: {place}{key} ({meaning}) is nothing that kinoform can follow; leave it out",
                code="dataset_key_not_read",
            )


def _lengths(path: Path, place: str, given: Table) -> tuple[list[int], list[str]]:
    """Return lengths of videos as musubi takes them, trimmed to 1 + 4 n, and what is otherwise than there."""
    if "target_frames" not in given:
        return [], ["without target_frames clips have the model's frames, and musubi would learn single frames"]
    frames = _counts(path, place, "target_frames", given)
    trimmed = sorted({number - (number - 1) % 4 for number in frames})
    notes = [] if trimmed == frames else [f"target_frames {frames} are trimmed to {trimmed}, as musubi does"]
    extraction = given.get("frame_extraction")
    return trimmed, [*notes, *(why for name, why in OTHERWISE.items() if name == extraction)]


def _rule(path: Path, place: str, given: Table) -> str | None:
    if "frame_extraction" not in given:
        return None
    name = _text(path, place, "frame_extraction", given)
    if name not in RULES:
        raise UsageError(
            f"{path}: {place}no frame_extraction {name[:30]!r}; {nearest(name[:30], RULES)}", code="unknown_name"
        )
    if name not in NUMBERS:
        return RULES[name]
    key = NUMBERS[name]
    return f"{RULES[name]}={whole(f'{path}: {place}{key}', given.get(key, 1), 1, 100_000)}"


def _sizes(path: Path, place: str, key: str, values: object) -> tuple[tuple[int, int], ...] | None:
    """Return (width, height) of each of a list of pairs, or of sides of squares; None where there is no list."""
    if values is None:
        return None
    if not isinstance(values, list) or not values:
        raise UsageError(f"{path}: {place}{key} is no list of sizes; write [512], or [[832, 480]]", code="wrong_type")
    return tuple(dict.fromkeys(_pair(path, place, key, value) for value in cast("list[object]", values)))


def _pair(path: Path, place: str, key: str, value: object) -> tuple[int, int]:
    """Return (width, height) of a pair, or of the side of a square."""
    sides = cast("list[object]", value) if isinstance(value, list) else [value, value]
    if len(sides) != 2 or not all(type(side) is int and 0 < side < 100_000 for side in sides):
        raise UsageError(f"{path}: {place}{key} is {str(value)[:40]!r}, no width and height", code="wrong_type")
    width, height = cast("list[int]", sides)
    return width, height
