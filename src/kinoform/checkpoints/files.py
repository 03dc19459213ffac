"""A checkpoint: tensors by name, whatever files they lie in; shapes are known before any data is read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from kinoform.checkpoints.formats import Stored, open_pickle, stored
from kinoform.checkpoints.gguf import gguf_stored
from kinoform.checkpoints.gguf_header import read_gguf_header
from kinoform.checkpoints.headers import FETCH, MAX_TENSORS, PICKLES, WEIGHT_SUFFIXES, layer_formats, read_header
from kinoform.checkpoints.shards import shards_of
from kinoform.checkpoints.stems import files_of, stem_of
from kinoform.errors import WeightsError
from kinoform.files import check_no_link


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

    A shard stands for its set, a folder for the stem that its files are called after, and a stem for what
    stems.py finds. Raises WeightsError naming the file at fault.
    """
    named = path.is_file() or (path.suffix.lower() in WEIGHT_SUFFIXES and not path.is_dir())
    return _opened(path, shards_of(path) if named else files_of(path / stem_of(path) if path.is_dir() else path))


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
    if suffix not in WEIGHT_SUFFIXES:
        check_no_link(file)
        raise WeightsError(
            f"{file} is not a weight file; give one that ends in {', '.join(WEIGHT_SUFFIXES)}",
            code="weights_unsupported_storage",
        )
    if suffix == ".gguf":
        packed = read_gguf_header(file)
        return gguf_stored(packed), packed.metadata
    if suffix in PICKLES:
        return open_pickle(file), {}
    header = read_header(file)
    return stored(header), {**header.metadata, **layer_formats(header)}
