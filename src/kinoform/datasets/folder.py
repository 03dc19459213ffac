"""A folder of clips, each with a text file of the same name, and perhaps with files of other roles beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from kinoform.datasets.item import Dataset, DatasetItem, some
from kinoform.datasets.own_inputs import NONE, OwnInputs, is_file
from kinoform.errors import UsageError, nearest
from kinoform.files import missing
from kinoform.media.codecs import VIDEO
from kinoform.media.paths import IMAGE_SUFFIXES

MEDIA = frozenset({*IMAGE_SUFFIXES, *VIDEO, ".mov", ".m4v"})
"""Extensions of files that are taken for a video or an image."""

UNREAD = frozenset(
    {".avi", ".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".bmp", ".tif", ".tiff", ".heic", ".avif", ".jxl", ".tar"}
)
"""Extensions of media that are not read, which is said."""

BESIDE = ("source", "mask", "reference", "first", "last")
"""Roles that a file beside a clip names before its extension: clip.mask.png, clip.reference.2.png."""


ROLE = re.compile(r"(.+)\.([A-Za-z_]\w*)(?:\.\d+)?")

CAPTIONS = "captions.json"
"""File of a folder with the captions of its clips by their names, as diffusion-pipe has them."""


def folder_dataset(path: Path, *, text: str = ".txt", own: OwnInputs = NONE) -> Dataset:
    """Read a folder: `clip.mp4` with `clip.txt`, in the order of the names; hidden files and folders are left alone.

    Captions are in files of the extension `text`, or else in `captions.json`.

    `clip.source.mp4`, `clip.mask.mp4`, `clip.first.png`, `clip.last.png`, `clip.reference.png` (`clip.reference.2.png`)
    are its other roles, and names of `own`, inputs of the model. Raises UsageError for a file of an unknown role or
    without its clip, and for a text that is not UTF-8.
    """
    listed = _listed(path / CAPTIONS)
    names = (*BESIDE, *(name for name, field in own.items() if is_file(field)))
    files = sorted(file for file in path.rglob("*") if _is_read(file, names))
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    targets: dict[Path, Path] = {}
    beside: list[tuple[Path, str, Path]] = []
    for file in files:
        stem, role = _role(file, names, described=file.name in listed or file.with_name(file.stem + text).is_file())
        if role is not None:
            beside.append((file.parent / stem, role, file))
            continue
        clip = file.with_suffix("")
        if clip in targets:
            raise UsageError(
                f"{targets[clip].name} and {file.name} in {file.parent} have one name, and one text; rename one",
                code="dataset_names_clash",
            )
        targets[clip] = file
    roles: dict[Path, dict[str, list[Path]]] = {clip: {} for clip in targets}
    for clip, role, file in beside:
        if clip not in targets:
            raise UsageError(
                f"{file} is a {role} of the clip {clip.name}, which is not there; add it, or take the file away",
                code="dataset_clip_missing",
            )
        roles[clip].setdefault(role, []).append(file)
    for files in (files for own in roles.values() for files in own.values()):
        files.sort(key=_number)
    captions = {clip: _caption(clip.with_name(clip.name + text), file, listed) for clip, file in targets.items()}
    items = [_item(path, clip, file, roles[clip], captions[clip]) for clip, file in targets.items()]
    return Dataset(
        path=path, form="folder", items=tuple(items), notes=(*_unread(path), *_alone(path, targets, text, files))
    )


def with_sources(dataset: Dataset, folder: Path) -> Dataset:
    """Return the dataset with the sources of its items from another folder, where they have the names of the targets.

    Raises UsageError for a folder that is missing, and for an item without its source.
    """
    if not folder.is_dir():
        raise missing(folder)
    sources = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in MEDIA or file.is_dir()}
    without = [item.name for item in dataset.items if item.target.stem not in sources]
    if without:
        raise UsageError(
            f"{folder} has no file for {without[0]}, which needs one of the same name ({len(without)} items do)",
            code="dataset_clip_missing",
        )
    return replace(dataset, items=tuple(replace(item, source=sources[item.target.stem]) for item in dataset.items))


def _is_read(file: Path, names: Sequence[str]) -> bool:
    """Tell whether a file is a clip or stands beside one: media, and files of any kind that are named for an input."""
    found = None if file.suffix.lower() in MEDIA else ROLE.fullmatch(file.stem)
    return (file.suffix.lower() in MEDIA or (found is not None and found[2] in names[len(BESIDE) :])) and file.is_file()


def _unread(folder: Path) -> tuple[str, ...]:
    """Say which media are of kinds that are not read."""
    files = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.suffix.lower() in UNREAD]
    return (f"not read: {some(files)}; videos and images are {', '.join(sorted(MEDIA))}",) if files else ()


def _alone(folder: Path, targets: Iterable[Path], text: str, read: Iterable[Path]) -> tuple[str, ...]:
    """Say which texts, of those that are not read as something else, have no clip."""
    clips, others = set(targets), set(read)
    texts = (
        file for file in sorted(folder.rglob(f"*{text}")) if file.with_suffix("") not in clips and file not in others
    )
    alone = [str(file.relative_to(folder)) for file in texts if not file.name.startswith(".")]
    if not alone:
        return ()
    return (f"texts without a clip beside them are left out: {some(alone)}",)


def _listed(file: Path) -> Mapping[str, object]:
    """Read a file of captions by the names of clips; one that is not there says nothing."""
    if not file.is_file():
        return {}
    try:
        values: object = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read as captions: {error}", code="file_unreadable") from error
    if not isinstance(values, dict):
        raise UsageError(f"{file} must say a caption for each name of a clip", code="dataset_damaged")
    return cast("dict[str, object]", values)


def _caption(text: Path, clip: Path, listed: Mapping[str, object]) -> str:
    """Return the caption of a clip: its text, else the first that a list of captions has for it, else none."""
    if text.is_file():
        return caption_in(text)
    said = listed.get(clip.name, "")
    first = cast("list[object]", said)[0] if isinstance(said, list) and said else said
    if not isinstance(first, str):
        raise UsageError(f"{CAPTIONS} says no text for {clip.name}", code="dataset_damaged")
    return " ".join(first.split())


def _role(file: Path, names: Sequence[str], *, described: bool) -> tuple[str, str | None]:
    """Return the name of the clip that a file belongs to, and its role; None for a clip itself, if with dots in its
    name then one that is described by a caption."""
    match = ROLE.fullmatch(file.stem)
    if match is None:
        return file.stem, None
    if match[2] not in names:
        if described:
            return file.stem, None
        raise UsageError(
            f"{file}: there is no role {match[2]!r}; {nearest(match[2], names)}; a clip with dots in its name needs "
            "its .txt file",
            code="dataset_role_unknown",
        )
    return match[1], match[2]


def _number(file: Path) -> tuple[int, str]:
    """Return what orders the files of one role: 1 for clip.reference.png, before clip.reference.2.png."""
    number = file.stem.rpartition(".")[2]
    return int(number) if number.isdecimal() else 1, file.name


def _item(folder: Path, clip: Path, target: Path, roles: dict[str, list[Path]], caption: str) -> DatasetItem:
    for role, files in roles.items():
        if role in BESIDE and role != "reference" and len(files) > 1:
            raise UsageError(
                f"{clip.name} has {len(files)} files of the role {role}; leave one", code="dataset_names_clash"
            )
    one = {role: files[0] for role, files in roles.items()}
    return DatasetItem(
        name=str(target.relative_to(folder)),
        target=target,
        caption=caption,
        source=one.get("source"),
        mask=one.get("mask"),
        references=tuple(roles.get("reference", ())),
        first=one.get("first"),
        last=one.get("last"),
        own=tuple(sorted((role, tuple(files)) for role, files in roles.items() if role not in BESIDE)),
    )


def caption_in(file: Path) -> str:
    """Read a caption, its lines as one. Raises UsageError for what is not UTF-8."""
    try:
        return " ".join(file.read_text(encoding="utf-8-sig").split())
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{file} cannot be read as a caption: {error}", code="file_unreadable") from error
