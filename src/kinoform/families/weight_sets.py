"""Weights as they lie in files: a single one, numbered shards, or everything in a folder."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kinoform.checkpoints.file_sets import checked, listed, passed_over, shards_of
from kinoform.checkpoints.headers import WEIGHT_SUFFIXES, check_file
from kinoform.checkpoints.hub_cache import snapshot_at
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles
from kinoform.errors import WeightsError

INDEX = ".safetensors.index.json"
DEPTH = 3
MOST_FILES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSet:
    """The files that hold one set of tensors; `path` names them: the file, or the first shard.

    Where an `index` lists them, it is held against them when they are read.
    """

    path: Path
    files: tuple[Path, ...]
    index: Path | None = None


def weight_sets(path: Path) -> tuple[WeightSet, ...]:
    """The set that a file belongs to, or all sets in a folder and the folders in it, in the order of names.

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
        return (_set_of(path),)
    found: dict[Path, WeightSet] = {}
    count = 0
    for place, names in _walk(path):
        count += len(names)
        if count > MOST_FILES:
            raise WeightsError(
                f"{path} holds more than {MOST_FILES} weight files; give the folder of one model",
                code="weights_too_many",
            )
        found |= {each.path: each for each in sets_in(place, names)}
    if not found:
        raise WeightsError(
            f"{path} holds no weight files ({', '.join(WEIGHT_SUFFIXES)}); check the folder", code="weights_missing"
        )
    return tuple(found[each] for each in sorted(found))


def sets_in(folder: Path, names: Iterable[str]) -> Iterator[WeightSet]:
    """The sets that these files of one folder make, without those that others stand before (see stems.py)."""
    left = {folder / name for name in names if _is_weights(name)}
    for index in sorted(folder.glob(f"*{INDEX}")):
        try:
            files = listed(index).files
        except WeightsError:
            files = (index,)  # whose fault is told when it is read
        left -= set(files)
        yield WeightSet(path=files[0], files=files, index=index)
    for file in left - passed_over(folder):
        yield _set_of(file)


def open_set(weights: WeightSet, reader: HeaderReader) -> OpenedFiles:
    """Open the headers of a set; those of a .pth file import PyTorch, without which nothing of it can be read.

    Raises WeightsError naming a shard that is missing, or as the readers of headers do.
    """
    files = weights.files if weights.index is None else checked(listed(weights.index), reader)
    return reader.open(weights.path, files)


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder with the names of its weight files, hidden folders and those far below left out."""
    depth = len(folder.parts)
    for place, folders, names in os.walk(folder):
        below = len(Path(place).parts) - depth < DEPTH
        folders[:] = sorted(name for name in folders if below and not name.startswith("."))
        yield Path(place), sorted(filter(_is_weights, names))


def _is_weights(name: str) -> bool:
    """Whether the name is one of weights; of `.bin`, which anything may be called, only those of transformers."""
    suffix = Path(name).suffix.lower()
    return suffix in WEIGHT_SUFFIXES and (suffix != ".bin" or "pytorch_model" in name)


def _set_of(file: Path) -> WeightSet:
    files = shards_of(file)
    return WeightSet(path=files[0], files=files)
