"""A checkpoint: tensors by name, whatever files they lie in; shapes are known before any data is read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kinoform.checkpoints.file_sets import files_at, shards_of
from kinoform.checkpoints.formats import Stored, pickle_stored, read_data, stored
from kinoform.checkpoints.gguf import gguf_stored
from kinoform.checkpoints.hashes import file_hash
from kinoform.checkpoints.headers import PICKLES, SAFETENSORS, Entry, Header
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles, check_unchanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Tensors by name, in the order of the files; `path` is as the user gave it, `metadata` as the headers have it."""

    path: Path
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(stored.file for stored in self.tensors.values()))

    def read(self, name: str) -> Tensor:
        """Read one tensor onto the CPU, as stored; the caller owns it."""
        return self.tensors[name].read()


def open_checkpoint(path: Path, reader: HeaderReader | None = None) -> Checkpoint:
    """Open the headers of a file, of a folder, or of `folder/stem`, as `files_at` finds the files.

    A `reader` keeps headers that others have use for. Raises WeightsError naming the file at fault.
    """
    reader = reader or HeaderReader()
    return checkpoint_of(reader.open(path, files_at(path, reader)))


def open_file(file: Path) -> Checkpoint:
    """Open the header of one file, or those of its set where it is a shard. Raises WeightsError."""
    return checkpoint_of(HeaderReader().open(file, shards_of(file)))


def read_file(file: Path) -> tuple[Checkpoint, str]:
    """Read one file whole, and once: its tensors, which stay in memory, and the SHA-256 of the same bytes in hex.

    A shard brings the others of its set. Other formats than safetensors are opened as by `open_file`, and hashed apart.
    Raises WeightsError.
    """
    opened = HeaderReader().open(file, shards_of(file))
    checkpoint = checkpoint_of(opened)
    if file.suffix.lower() not in SAFETENSORS:
        return checkpoint, file_hash(file)
    data = {path: read_data(path, 0, (path.stat().st_size,), torch.uint8) for path in opened.files}
    starts = {header.path: header.data_start for header in opened.headers}
    tensors = {
        name: replace(
            tensor,
            read=partial(_part_of, data[tensor.file], starts[tensor.file], opened.tensors[name], tensor.dtype),
        )
        for name, tensor in checkpoint.tensors.items()
    }
    return replace(checkpoint, tensors=tensors), hashlib.sha256(data[file].numpy().data).hexdigest()


def _part_of(data: Tensor, start: int, entry: Entry, dtype: torch.dtype) -> Tensor:
    return data[start + entry.begin : start + entry.end].clone().view(dtype).view(entry.shape)


def checkpoint_of(opened: OpenedFiles) -> Checkpoint:
    """Make the checkpoint that parsed headers describe; no header is parsed, and nothing stays open behind it.

    Raises WeightsError for a file that has changed since its header was read.
    """
    tensors: dict[str, Stored] = {}
    for header in opened.headers:
        check_unchanged(header)
        tensors |= stored_in(header)
    return Checkpoint(path=opened.path, tensors=tensors, metadata=opened.metadata)


def stored_in(header: Header) -> dict[str, Stored]:
    """The tensors of one file of any format, of which nothing is read yet."""
    suffix = header.path.suffix.lower()
    if suffix == ".gguf":
        return gguf_stored(header)
    return pickle_stored(header) if suffix in PICKLES else stored(header)


def under(
    checkpoint: Checkpoint, prefix: str, *, others: tuple[str, ...] = (), unused: tuple[str, ...] = ()
) -> Checkpoint:
    """Take the tensors under a prefix, without it, and leave out those under `others`.

    Tensors under neither keep their names, so that a strict load of one part names them; those among them that begin
    as `unused` are left out too.
    """
    within = tuple(other for other in others if other.startswith(prefix))
    tensors = {}
    for name, tensor in checkpoint.tensors.items():
        if name.startswith(prefix) and not name.startswith(within):
            tensors[name.removeprefix(prefix)] = tensor
        elif not name.startswith((*others, *unused)):
            tensors[name] = tensor
    return replace(checkpoint, tensors=tensors)
