"""Files that hold one set of tensors: a single one, numbered shards, or files of a folder called after one stem.

A shard is NAME-00001-of-00003.safetensors, .gguf or .bin. Of a stem there may be an index and its files, one file or
numbered ones. Plain files stand before those of a variant (STEM.fp16.safetensors), and safetensors before pickles
(.bin), as in diffusers and transformers. Read without PyTorch.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kinoform.checkpoints.headers import FETCH, SAFETENSORS, WEIGHT_SUFFIXES, check_file, read_json
from kinoform.checkpoints.hub_cache import snapshot_at
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles
from kinoform.errors import WeightsError

STEM, TEXT_STEM = "diffusion_pytorch_model", "model"
"""Names of the weight files in a folder when nothing else is said; the second in those of transformers."""

STEMS = (STEM, TEXT_STEM)
PICKLED = {TEXT_STEM: "pytorch_model"}
"""The stem of pickles, where it is another."""

SHARD = re.compile(
    r"(?P<stem>.+)-(?P<number>[0-9]{5})(?P<ending>-of-(?P<total>[0-9]{5})(\.safetensors|\.sft|\.gguf|\.bin))",
    re.IGNORECASE | re.DOTALL,
)
MAX_SHARDS = 1000
INDEX = ".safetensors.index.json"
MAX_DEPTH = 3
MAX_FILES = 1000

NUMBERED = r"-(?P<number>\d{5})-of-(?P<total>\d{5})"
LISTED, MAX_LENGTH = 3, 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A name, STEM-NUMBER ENDING, of one of `total` files; numbers begin at 1."""

    stem: str
    number: int
    ending: str
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """Files that belong together, there or not; `index` is the file that lists them, if one does."""

    files: tuple[Path, ...]
    variant: str = ""
    pickled: bool = False
    index: Path | None = None

    @property
    def path(self) -> Path:
        """The file, or the first of several."""
        return self.files[0]


def weight_sets(path: Path) -> tuple[FileSet, ...]:
    """Find the set that a file belongs to, or all sets in a folder and the folders in it, in the order of names.

    Raises WeightsError when there are none, or more files than any model has.
    """
    path = snapshot_at(Path(os.path.expanduser(path)))
    if not path.is_dir():
        check_file(path)
        if path.suffix.lower() not in WEIGHT_SUFFIXES:
            raise WeightsError(
                f"{path} is not a weight file; give one that ends in {', '.join(WEIGHT_SUFFIXES)}",
                code="weights_unsupported_storage",
            )
        return (FileSet(files=shards_of(path)),)
    result: dict[Path, FileSet] = {}
    count = 0
    for folder, names in _folders(path):
        count += len(names)
        if count > MAX_FILES:
            raise WeightsError(
                f"{path} holds more than {MAX_FILES} weight files; give the folder of one model",
                code="weights_too_many",
            )
        result |= {files.path: files for files in sets_in(folder, names)}
    if not result:
        raise WeightsError(
            f"{path} holds no weight files ({', '.join(WEIGHT_SUFFIXES)}); check the folder", code="weights_missing"
        )
    return tuple(result[first] for first in sorted(result))


def sets_in(folder: Path, names: Iterable[str]) -> Iterator[FileSet]:
    """Yield the sets that these files of one folder make, without those that nobody reads (see `passed_over`)."""
    left = {folder / name for name in names if _is_weights(name)}
    for index in sorted(folder.glob(f"*{INDEX}")):
        try:
            group = listed(index)
        except WeightsError:
            group = FileSet(files=(index,), index=index)  # refused when it is opened
        left -= set(group.files)
        yield group
    for file in left - passed_over(folder):
        yield FileSet(files=shards_of(file))


def open_set(group: FileSet, reader: HeaderReader) -> OpenedFiles:
    """Open the headers of a set; those of a .pth file import PyTorch, without which nothing of it can be read.

    Raises WeightsError naming a shard that is missing, or as the readers of headers do.
    """
    files = group.files if group.index is None else checked(listed(group.index), reader)
    return reader.open(group.path, files)


def stem_of(folder: Path) -> str:
    """Find the stem after which the weights in a folder are called."""
    return next((stem for stem in STEMS if groups(folder, stem)), STEM)


def files_at(path: Path, reader: HeaderReader) -> tuple[Path, ...]:
    """Find the files that a path means: a shard stands for its set, a folder for the stem that its files are called
    after, and `folder/stem` for the files of that stem. Raises WeightsError as `files_of`.
    """
    if path.is_dir():
        return files_of(path / stem_of(path), reader)
    named = path.is_file() or path.suffix.lower() in WEIGHT_SUFFIXES
    return shards_of(path) if named else files_of(path, reader)


def files_of(path: Path, reader: HeaderReader) -> tuple[Path, ...]:
    """Find the files that `folder/stem` means. Raises WeightsError where they are missing, incomplete or ambiguous."""
    folder, stem = path.parent, path.name
    chosen = preferred(groups(folder, stem))
    if not chosen:
        raise WeightsError(
            f"{folder} holds no {stem}*.safetensors; check the folder, or fetch it", code="weights_missing"
        )
    for group in chosen:
        if group.index is not None or len(chosen) == 1:
            checked(group, reader)
    if len(chosen) > 1:
        names = " and ".join(group.files[0].name for group in chosen[:LISTED])
        raise WeightsError(
            f"{folder} holds two sets of {stem} files, {names}; give the file of one, or move the other away",
            code="weights_ambiguous",
        )
    return chosen[0].files


def groups(folder: Path, stem: str) -> list[FileSet]:
    """Group the files in a folder that are called after a stem; the files that an index lists are one group."""
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    result = [listed(folder / name, variant) for name in names if (variant := _index(name, stem)) is not None]
    taken = {file for group in result for file in group.files}
    numbered: dict[tuple[str, bool, int, str], dict[int, Path]] = {}
    for name in names:
        match = _weights(stem).fullmatch(name)
        if match is None or folder / name in taken:
            continue
        variant, pickled = (match["variant"] or match["late"] or "").lstrip("."), match["ending"].lower() == ".bin"
        if not pickled and match["stem"].lower() != stem.lower():
            continue
        total = int(match["total"] or 0)
        numbered.setdefault((variant, pickled, total, match["ending"]), {})[int(match["number"] or 0)] = folder / name
    for (variant, pickled, total, _), files in numbered.items():
        result.append(FileSet(files=_whole(files, total), variant=variant, pickled=pickled))
    return result


def preferred(candidates: Iterable[FileSet]) -> list[FileSet]:
    """Choose the groups that are meant: plain ones, else those of variants, else pickles; never between equals."""
    held = list(candidates)
    choices = (
        [group for group in held if not group.pickled and not group.variant],
        [group for group in held if not group.pickled],
        [group for group in held if not group.variant],
    )
    return next(filter(None, choices), held)


def passed_over(folder: Path) -> set[Path]:
    """List the files that nobody reads, because others called after the same stem stand before them."""
    result: set[Path] = set()
    for stem in STEMS:
        with suppress(WeightsError):  # of a damaged index, which is refused elsewhere
            held = groups(folder, stem)
            result |= {file for group in held if group not in preferred(held) for file in group.files}
    return result


def checked(group: FileSet, reader: HeaderReader) -> tuple[Path, ...]:
    """Check a group and return its files.

    Raises WeightsError where one is missing, or an index promises tensors that its files lack.
    """
    for file in group.files:
        if not file.is_file():
            reason = "other files of its set are there" if group.index is None else f"{group.index.name} names it"
            raise WeightsError(f"{file} is missing, though {reason}; fetch it", code="weights_incomplete")
    if group.index is not None and not group.pickled:
        held = {tensor for file in group.files for tensor in reader.read(file).entries}
        if lacking := sorted(_map(group.index).keys() - held):
            raise WeightsError(
                f"{group.index} promises {len(lacking)} tensors that its files lack, first {lacking[0]!r}; {FETCH}",
                code="weights_incomplete",
            )
    return group.files


def listed(index: Path, variant: str = "") -> FileSet:
    """Read the files that an index lists.

    Raises WeightsError where it is damaged, or names something else than a weight file beside it.
    """
    pickled = ".bin." in index.name
    names = sorted(set(_map(index).values()))
    for name in names:
        if Path(name).name != name or "\\" in name or not name.lower().endswith((".bin",) if pickled else SAFETENSORS):
            raise WeightsError(
                f"{index} names {name[:MAX_LENGTH]!r}, which is no weight file beside it; {FETCH}",
                code="weights_damaged",
            )
    return FileSet(files=tuple(index.parent / name for name in names), variant=variant, pickled=pickled, index=index)


def read_shard(name: str) -> Shard | None:
    """Read the name of a shard; None for any other file, and for numbers that no set has. Letter case is free."""
    match = SHARD.fullmatch(name)
    if match is None:
        return None
    number, total = int(match["number"]), int(match["total"])
    if not 1 <= number <= total <= MAX_SHARDS:
        return None
    return Shard(stem=match["stem"], number=number, ending=match["ending"], total=total)


def shard_name(stem: str, number: int, total: int) -> str:
    """The name of a shard as kinoform writes it."""
    return f"{stem}-{number:05d}-of-{total:05d}.safetensors"


def shards_of(file: Path) -> tuple[Path, ...]:
    """List the files of the set that a shard belongs to, there or not, spelled as it is; any other file alone."""
    shard = read_shard(file.name)
    if shard is None:
        return (file,)
    return tuple(file.with_name(f"{shard.stem}-{n:05d}{shard.ending}") for n in range(1, shard.total + 1))


def _folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder with the names of its weight files, hidden folders and those far below left out."""
    depth = len(folder.parts)
    for path, folders, names in os.walk(folder):
        below = len(Path(path).parts) - depth < MAX_DEPTH
        folders[:] = sorted(name for name in folders if below and not name.startswith("."))
        yield Path(path), sorted(filter(_is_weights, names))


def _is_weights(name: str) -> bool:
    """Tell whether the name is one of weights; of `.bin`, which anything may be called, only those of transformers."""
    suffix = Path(name).suffix.lower()
    return suffix in WEIGHT_SUFFIXES and (suffix != ".bin" or "pytorch_model" in name)


def _map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise WeightsError(f"{index} has no weight_map from tensors to files; {FETCH}", code="weights_damaged")
    return weight_map


def _whole(files: dict[int, Path], total: int) -> tuple[Path, ...]:
    """The numbered files of a set, spelled as one of them that is there."""
    if not 0 < total <= MAX_SHARDS:
        return tuple(files.values())
    number, given = next(iter(files.items()))
    before, after = given.name.split(f"-{number:05d}-", 1)
    return tuple(files.get(n) or given.with_name(f"{before}-{n:05d}-{after}") for n in range(1, total + 1))


def _index(name: str, stem: str) -> str | None:
    """The variant that an index is of, empty for a plain one; None for any other file."""
    pickled = re.escape(PICKLED.get(stem, stem))
    match = re.fullmatch(rf"({re.escape(stem)}\.safetensors|{pickled}\.bin)\.index(?:\.(?P<variant>\w+))?\.json", name)
    return None if match is None else match["variant"] or ""


def _weights(stem: str) -> re.Pattern[str]:
    """A weight file of a stem; a variant stands before its number, or behind in what older programs wrote."""
    stems = f"(?P<stem>{re.escape(stem)}|{re.escape(PICKLED.get(stem, stem))})"
    numbered = rf"(?:{NUMBERED}(?P<late>\.\w+)?)?"
    return re.compile(rf"{stems}(?P<variant>\.\w+)?{numbered}(?P<ending>\.(?:safetensors|sft|bin))", re.IGNORECASE)
