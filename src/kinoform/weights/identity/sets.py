"""Weights as they lie in files: a single one, numbered shards, or everything in a folder."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.weights.identity.amounts import Described
from kinoform.weights.shards import shards_of
from kinoform.weights.storage.gguf_header import read_gguf_header
from kinoform.weights.storage.headers import FETCH, MAX_TENSORS, WEIGHT_SUFFIXES, check_file, layer_formats, read_header

DEPTH = 3
MOST_FILES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSet:
    """The files that hold one set of tensors; `path` names them: the file, or the first shard."""

    path: Path
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """What the headers of a set say."""

    tensors: Mapping[str, Described]
    metadata: Mapping[str, str]


def weight_sets(path: Path) -> tuple[WeightSet, ...]:
    """The set that a file belongs to, or all sets in a folder and the folders in it, in the order of names.

    Raises WeightsError when there are none, or more files than any model has.
    """
    if not path.is_dir():
        check_file(path)
        if path.suffix.lower() not in WEIGHT_SUFFIXES:
            raise WeightsError(
                f"{path} is not a weight file; give one that ends in {', '.join(WEIGHT_SUFFIXES)}",
                code="weights_unsupported_storage",
            )
        return (_set_of(path),)
    files = []
    for file in _walk(path):
        files.append(file)
        if len(files) > MOST_FILES:
            raise WeightsError(
                f"{path} holds more than {MOST_FILES} weight files; give the folder of one model",
                code="weights_too_many",
            )
    if not files:
        raise WeightsError(
            f"{path} holds no weight files ({', '.join(WEIGHT_SUFFIXES)}); check the folder", code="weights_missing"
        )
    sets = (_set_of(file) for file in sorted(files))
    return tuple({each.path: each for each in sets}.values())


def read_set(weights: WeightSet) -> Tensors:
    """Headers only; but a .pth file imports PyTorch, without which nothing of it can be read.

    Raises WeightsError naming a shard that is missing, or as the readers of headers do.
    """
    tensors: dict[str, Described] = {}
    metadata: dict[str, str] = {}
    for file in weights.files:
        held, told = _read(file)
        if repeated := tensors.keys() & held.keys():
            raise WeightsError(
                f"tensor {min(repeated)!r} is in {file} and in an earlier file of its set; {FETCH}",
                code="weights_ambiguous",
            )
        tensors |= held
        metadata |= told
        if len(tensors) > MAX_TENSORS:
            raise WeightsError(
                f"{file} and its set hold more than {MAX_TENSORS} tensors; it is no model of this family",
                code="weights_too_many",
            )
    if not tensors:
        raise WeightsError(f"{weights.path} holds no tensors; {FETCH}", code="weights_missing")
    return Tensors(tensors=tensors, metadata=metadata)


def _walk(folder: Path) -> Iterator[Path]:
    depth = len(folder.parts)
    for place, folders, names in os.walk(folder):
        below = len(Path(place).parts) - depth < DEPTH
        folders[:] = sorted(name for name in folders if below and not name.startswith("."))
        yield from (Path(place, name) for name in names if Path(name).suffix.lower() in WEIGHT_SUFFIXES)


def _set_of(file: Path) -> WeightSet:
    files = shards_of(file)
    return WeightSet(path=files[0], files=files)


def _read(file: Path) -> tuple[Mapping[str, Described], Mapping[str, str]]:
    suffix = file.suffix.lower()
    if suffix == ".safetensors":
        header = read_header(file)
        return header.entries, {**header.metadata, **layer_formats(header)}
    if suffix == ".gguf":
        gguf = read_gguf_header(file)
        return gguf.entries, gguf.metadata
    from kinoform.weights.storage.formats import open_pickle  # which imports PyTorch

    return open_pickle(file), {}
