"""A checkpoint: tensors by name, whatever files they lie in; shapes are known before any data is read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from kinoform.errors import WeightsError
from kinoform.weights.storage.formats import Stored, open_pickle, stored
from kinoform.weights.storage.gguf_file import open_gguf
from kinoform.weights.storage.headers import FETCH, MAX_TENSORS, read_header, read_json

STEM = "diffusion_pytorch_model"
"""What the weight files in a folder are called when nothing else is said."""

OPENERS = {".pth": open_pickle, ".pt": open_pickle, ".gguf": open_gguf}
SUFFIXES = (".safetensors", *OPENERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """`path` as the user gave it; `tensors` in the order of the files; `metadata` as their headers tell."""

    path: Path
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(stored.file for stored in self.tensors.values()))

    def read(self, name: str) -> Tensor:
        """The data of one tensor on the CPU, as stored; the caller owns it."""
        return self.tensors[name].read()


def open_checkpoint(path: Path) -> Checkpoint:
    """Open the headers of a file, of a folder, or of `folder/stem` for files stem*.safetensors.

    A folder stands for `folder/diffusion_pytorch_model`. A stem is looked up in this order: its index
    (stem.safetensors.index.json), one file, numbered shards. Raises WeightsError naming the file at fault.
    """
    named = path.is_file() or (path.suffix.lower() in SUFFIXES and not path.is_dir())
    files = [path] if named else _files_of(path)
    tensors: dict[str, Stored] = {}
    metadata: dict[str, str] = {}
    for file in files:
        opened, told = _opened(file)
        metadata |= told
        if repeated := tensors.keys() & opened.keys():
            name = min(repeated)
            raise WeightsError(f"tensor {name!r} is in {tensors[name].file} and again in {file}; remove one")
        tensors |= opened
    if len(tensors) > MAX_TENSORS:
        raise WeightsError(f"{path} holds more than {MAX_TENSORS} tensors; it is not a model of this family")
    if not tensors:
        raise WeightsError(f"{path} holds no tensors; {FETCH}")
    return Checkpoint(path=path, tensors=tensors, metadata=metadata)


def under(checkpoint: Checkpoint, prefix: str, *, others: tuple[str, ...] = ()) -> Checkpoint:
    """The tensors under a prefix, without it; those under `others` left out; what is under neither stays as it is.

    So a strict load of one part names what belongs to none.
    """
    within = tuple(other for other in others if other.startswith(prefix))
    tensors = {}
    for name, each in checkpoint.tensors.items():
        if name.startswith(prefix) and not name.startswith(within):
            tensors[name.removeprefix(prefix)] = each
        elif not name.startswith(others):
            tensors[name] = each
    return replace(checkpoint, tensors=tensors)


def _opened(file: Path) -> tuple[dict[str, Stored], Mapping[str, str]]:
    """Tensors and metadata."""
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise WeightsError(f"{file} is not a weight file; give one that ends in {', '.join(SUFFIXES)}")
    if suffix in OPENERS:
        return OPENERS[suffix](file), {}
    header = read_header(file)
    return stored(header), header.metadata


def _files_of(path: Path) -> list[Path]:
    stem = path / STEM if path.is_dir() else path
    index = stem.parent / f"{stem.name}.safetensors.index.json"
    if index.is_file():
        return _indexed(index)
    single = stem.parent / f"{stem.name}.safetensors"
    if single.is_file():
        return [single]
    return _numbered(stem)


def _indexed(index: Path) -> list[Path]:
    """The shards that an index names, each opened to see that it holds what the index says."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise WeightsError(f"{index} has no weight_map from tensors to files; {FETCH}")
    names = sorted(set(weight_map.values()))
    for name in names:
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise WeightsError(f"{index} names {name!r}, which is no weight file beside it; {FETCH}")
        if not (index.parent / name).is_file():
            raise WeightsError(f"{index.parent / name} is missing, though {index.name} names it; fetch it")
    files = [index.parent / name for name in names]
    held = {tensor for file in files for tensor in read_header(file).entries}
    if lacking := sorted(weight_map.keys() - held):
        raise WeightsError(
            f"{index} promises {len(lacking)} tensors that its files lack, first {lacking[0]!r}; {FETCH}"
        )
    return files


def _numbered(stem: Path) -> list[Path]:
    """stem-00001-of-0000n.safetensors up to n, without an index."""
    pattern = re.compile(re.escape(stem.name) + r"-(\d{5})-of-(\d{5})\.safetensors")
    found = {}
    for file in stem.parent.glob("*.safetensors"):
        if match := pattern.fullmatch(file.name):
            found[int(match[1]), int(match[2])] = file
    if not found:
        raise WeightsError(f"{stem.parent} holds no {stem.name}*.safetensors; check the folder, or fetch it")
    total = max(of for _, of in found)
    for number in range(1, total + 1):
        if (number, total) not in found:
            missing = stem.parent / f"{stem.name}-{number:05d}-of-{total:05d}.safetensors"
            raise WeightsError(f"{missing} is missing, though other files of {total} are there; fetch it")
    if len(found) > total:
        raise WeightsError(f"{stem.parent} mixes two sets of {stem.name} files; remove the older one")
    return [found[number, total] for number in range(1, total + 1)]
