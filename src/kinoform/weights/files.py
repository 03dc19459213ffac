"""A checkpoint: tensors by name, whatever files they lie in; shapes are known before any data is read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from kinoform.errors import WeightsError
from kinoform.weights.shards import read_shard, shards_of
from kinoform.weights.storage.formats import Stored, open_pickle, stored
from kinoform.weights.storage.gguf_file import gguf_stored
from kinoform.weights.storage.gguf_header import read_gguf_header
from kinoform.weights.storage.headers import FETCH, MAX_TENSORS, layer_formats, read_header, read_json

STEM = "diffusion_pytorch_model"
"""What the weight files in a folder are called when nothing else is said."""

PICKLES = (".pth", ".pt")
SUFFIXES = (".safetensors", ".gguf", *PICKLES)


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

    A shard stands for its set, a folder for `folder/diffusion_pytorch_model`. A stem is looked up in this
    order: its index (stem.safetensors.index.json), one file, numbered shards. Raises WeightsError naming
    the file at fault.
    """
    named = path.is_file() or (path.suffix.lower() in SUFFIXES and not path.is_dir())
    return _opened(path, shards_of(path) if named else _files_of(path))


def open_file(file: Path) -> Checkpoint:
    """Open the header of one file, though it be a shard. Raises WeightsError."""
    return _opened(file, (file,))


def under(
    checkpoint: Checkpoint, prefix: str, *, others: tuple[str, ...] = (), unused: tuple[str, ...] = ()
) -> Checkpoint:
    """The tensors under a prefix, without it; those under `others` left out; what is under neither stays as it is.

    So a strict load of one part names what belongs to none. Of the latter, those that begin as `unused` are
    left out too.
    """
    within = tuple(other for other in others if other.startswith(prefix))
    tensors = {}
    for name, each in checkpoint.tensors.items():
        if name.startswith(prefix) and not name.startswith(within):
            tensors[name.removeprefix(prefix)] = each
        elif not name.startswith((*others, *unused)):
            tensors[name] = each
    return replace(checkpoint, tensors=tensors)


def _opened(path: Path, files: Iterable[Path]) -> Checkpoint:
    tensors: dict[str, Stored] = {}
    metadata: dict[str, str] = {}
    for file in files:
        opened, told = _header(file)
        metadata |= told
        if repeated := tensors.keys() & opened.keys():
            name = min(repeated)
            raise WeightsError(
                f"tensor {name!r} is in {tensors[name].file} and again in {file}; remove one", code="weights_ambiguous"
            )
        tensors |= opened
    if len(tensors) > MAX_TENSORS:
        raise WeightsError(
            f"{path} holds more than {MAX_TENSORS} tensors; it is not a model of this family", code="weights_too_many"
        )
    if not tensors:
        raise WeightsError(f"{path} holds no tensors; {FETCH}", code="weights_missing")
    return Checkpoint(path=path, tensors=tensors, metadata=metadata)


def _header(file: Path) -> tuple[dict[str, Stored], Mapping[str, str]]:
    """Tensors and metadata."""
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise WeightsError(
            f"{file} is not a weight file; give one that ends in {', '.join(SUFFIXES)}",
            code="weights_unsupported_storage",
        )
    if suffix == ".gguf":
        packed = read_gguf_header(file)
        return gguf_stored(packed), packed.metadata
    if suffix in PICKLES:
        return open_pickle(file), {}
    header = read_header(file)
    return stored(header), {**header.metadata, **layer_formats(header)}


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
        raise WeightsError(f"{index} has no weight_map from tensors to files; {FETCH}", code="weights_damaged")
    names = sorted(set(weight_map.values()))
    for name in names:
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise WeightsError(
                f"{index} names {name!r}, which is no weight file beside it; {FETCH}", code="weights_damaged"
            )
        if not (index.parent / name).is_file():
            raise WeightsError(
                f"{index.parent / name} is missing, though {index.name} names it; fetch it", code="weights_incomplete"
            )
    files = [index.parent / name for name in names]
    held = {tensor for file in files for tensor in read_header(file).entries}
    if lacking := sorted(weight_map.keys() - held):
        raise WeightsError(
            f"{index} promises {len(lacking)} tensors that its files lack, first {lacking[0]!r}; {FETCH}",
            code="weights_incomplete",
        )
    return files


def _numbered(stem: Path) -> list[Path]:
    """The shards of a stem, without an index."""
    found: dict[Path, int] = {}
    for file in stem.parent.glob("*"):
        shard = read_shard(file.name)
        if shard is not None and shard.stem == stem.name and file.suffix.lower() == ".safetensors":
            found[file] = shard.total
    if not found:
        raise WeightsError(
            f"{stem.parent} holds no {stem.name}*.safetensors; check the folder, or fetch it", code="weights_missing"
        )
    files = shards_of(max(found, key=lambda file: found[file]))
    for file in files:
        if not file.is_file():
            raise WeightsError(
                f"{file} is missing, though other files of {len(files)} are there; fetch it", code="weights_incomplete"
            )
    if len(found) > len(files):
        raise WeightsError(
            f"{stem.parent} mixes two sets of {stem.name} files; remove the older one", code="weights_ambiguous"
        )
    return list(files)
