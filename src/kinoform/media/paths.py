"""Paths: the files that one means, the hash of their bytes, and names for videos that nobody named."""

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from kinoform.errors import UsageError
from kinoform.files import check_no_link, missing
from kinoform.media.limits import MAX_BYTES, MAX_FRAMES
from kinoform.media.types import Origin

PathLike: TypeAlias = str | os.PathLike[str]

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif"}
"""Extensions of frames in a folder; its other files are left alone."""

LONGEST_NUMBER = 4000
"""Digits that Python turns into a number by default."""

LONGEST_SLUG = 48
CHUNK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFiles:
    """A file, or the images of a folder in natural order; `name` is fit to be printed."""

    name: str
    paths: tuple[Path, ...]
    origin: Origin


def find_files(path: PathLike) -> MediaFiles:
    """Find the file, or the images of the folder, that a path means.

    Raises UsageError for a path that is missing or not readable, above 1 GiB, or a folder without images.
    """
    absolute = Path(os.path.abspath(os.fspath(path)))
    name = printable(os.fspath(path))
    check_no_link(name)
    try:
        return _folder(absolute, name) if absolute.is_dir() else _file(absolute, name)
    except UsageError:
        raise
    except FileNotFoundError as error:
        raise missing(name) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(
            f"{name} cannot be read ({getattr(error, 'strerror', None) or error})", code="file_unreadable"
        ) from error


def printable(name: str) -> str:
    """Escape what would disturb a terminal or a JSON file in a name."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def default_name(prompt: str, seed: int, suffix: str = ".mp4") -> str:
    """Return `kinoform_<slug>_<seed><suffix>`, where the slug is what the prompt has of letters and digits.

    Only `a-z 0-9 - _` are used, since these alone are safe on every file system and in every shell; accents
    are dropped, and a prompt in another script becomes `video`.
    """
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[:LONGEST_SLUG].strip("-")
    return f"kinoform_{slug or 'video'}_{seed}{suffix}"


def _file(path: Path, name: str) -> MediaFiles:
    _check_size([path], name)
    return MediaFiles(
        name=name, paths=(path,), origin=Origin(file=printable(path.name), sha256=_digest(path).hexdigest())
    )


def _folder(path: Path, name: str) -> MediaFiles:
    frames = [item for item in path.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES and item.name[0] != "."]
    if not frames:
        raise UsageError(
            f"{name} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); give a folder of frames",
            code="folder_without_images",
        )
    if len(frames) > MAX_FRAMES:
        raise UsageError(
            f"{name} holds {len(frames)} images; at most {MAX_FRAMES} are read; give fewer", code="too_many"
        )
    frames.sort(key=_natural)
    _check_size(frames, name)
    whole = hashlib.sha256()
    for frame in frames:
        whole.update(os.fsencode(frame.name) + b"\0" + _digest(frame).digest())
    return MediaFiles(
        name=name, paths=tuple(frames), origin=Origin(file=printable(path.name), sha256=whole.hexdigest())
    )


def _check_size(paths: Sequence[Path], name: str) -> None:
    size = 0
    for path in paths:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe or a device could go on forever
            raise UsageError(f"{printable(str(path))} is not a regular file; save it as one first", code="not_a_file")
        size += about.st_size
    if size > MAX_BYTES:
        max_mib = MAX_BYTES // 2**20
        raise UsageError(
            f"{name} takes {size // 2**20} MiB; at most {max_mib} MiB are read; cut it or make it smaller",
            code="file_too_large",
        )


def _natural(path: Path) -> tuple[list[tuple[bool, int, str]], str]:
    """Return a key that orders numbers within names by their value: frame 2 before frame 10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name.lower())
    numbers = [int(part[:LONGEST_NUMBER]) if part[0] in "0123456789" else None for part in parts]
    return [(n is None, n or 0, part if n is None else "") for n, part in zip(numbers, parts, strict=True)], path.name


def _digest(path: Path) -> "hashlib._Hash":
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest
