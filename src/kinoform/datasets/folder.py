"""A folder of clips, each with a text file of the same name, and perhaps with files of other roles beside it."""

from __future__ import annotations

import re
from pathlib import Path

from kinoform.datasets.item import Dataset, DatasetItem
from kinoform.errors import UsageError, nearest
from kinoform.media.codecs import VIDEO
from kinoform.media.paths import IMAGE_SUFFIXES

MEDIA = frozenset({*IMAGE_SUFFIXES, *VIDEO, ".mov", ".m4v"})
"""Extensions of files that are taken for a video or an image."""

BESIDE = ("source", "mask", "reference", "first", "last")
"""Roles that a file beside a clip names before its extension: clip.mask.png, clip.reference.2.png."""


def folder_dataset(path: Path) -> Dataset:
    """Read a folder: `clip.mp4` with `clip.txt`, in the order of the names; hidden files and folders are left alone.

    `clip.source.mp4`, `clip.mask.mp4`, `clip.first.png`, `clip.last.png`, `clip.reference.png` (`clip.reference.2.png`)
    are its other roles. Raises UsageError for a file of an unknown role or without its clip, and for a text that is not
    UTF-8.
    """
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in MEDIA and file.is_file())
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    targets: dict[Path, Path] = {}
    beside: list[tuple[Path, str, Path]] = []
    for file in files:
        stem, role = _role(file)
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
    items = [_item(path, clip, target, roles[clip]) for clip, target in targets.items()]
    return Dataset(path=path, form="folder", items=tuple(items))


def _role(file: Path) -> tuple[str, str | None]:
    """Return the name of the clip that a file belongs to, and its role; None for a clip itself."""
    match = re.fullmatch(r"(.+)\.([A-Za-z_]+)(?:\.\d+)?", file.stem)
    if match is None:
        return file.stem, None
    if match[2] not in BESIDE:
        if (file.parent / f"{file.stem}.txt").is_file():  # a clip with dots in its name
            return file.stem, None
        raise UsageError(
            f"{file}: there is no role {match[2]!r}; {nearest(match[2], BESIDE)}; a clip with dots in its name needs "
            "its .txt file",
            code="dataset_role_unknown",
        )
    return match[1], match[2]


def _item(folder: Path, clip: Path, target: Path, roles: dict[str, list[Path]]) -> DatasetItem:
    text = clip.with_name(f"{clip.name}.txt")
    for role, files in roles.items():
        if role != "reference" and len(files) > 1:
            raise UsageError(
                f"{clip.name} has {len(files)} files of the role {role}; leave one", code="dataset_names_clash"
            )
    one = {role: files[0] for role, files in roles.items()}
    return DatasetItem(
        name=str(target.relative_to(folder)),
        target=target,
        caption=caption_in(text) if text.is_file() else "",
        source=one.get("source"),
        mask=one.get("mask"),
        references=tuple(roles.get("reference", ())),
        first=one.get("first"),
        last=one.get("last"),
    )


def caption_in(file: Path) -> str:
    """Read a caption, its lines as one. Raises UsageError for what is not UTF-8."""
    try:
        return " ".join(file.read_text(encoding="utf-8-sig").split())
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{file} cannot be read as a caption: {error}", code="file_unreadable") from error
