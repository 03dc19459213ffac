"""A checkpoint: tensors by name, whatever files they lie in; shapes are known before any data is read."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kinoform.checkpoints.file_sets import files_at, shards_of
from kinoform.checkpoints.formats import Stored, pickle_stored, read_data, stored
from kinoform.checkpoints.gguf import gguf_stored
from kinoform.checkpoints.hashes import file_hash
from kinoform.checkpoints.headers import PICKLES, SAFETENSORS, Entry, Header, stamp_of
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles, check_unchanged
from kinoform.errors import WeightsError


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """A file that was read whole: its tensors, and the SHA-256 of the same bytes in hex.

    `release` frees the bytes. Tensors that are read after it read the file again, which must be the same.
    """

    checkpoint: Checkpoint
    sha256: str
    release: Callable[[], None]


def read_file(file: Path) -> ReadFile:
    """Read one file whole, and once, until it is released.

    A shard brings the others of its set. Other formats than safetensors are opened as by `open_file`, and hashed apart.
    Raises WeightsError.
    """
    opened = HeaderReader().open(file, shards_of(file))
    checkpoint = checkpoint_of(opened)
    if file.suffix.lower() not in SAFETENSORS:
        return ReadFile(checkpoint=checkpoint, sha256=file_hash(file), release=lambda: None)
    contents = {header.path: _Content(header.path, header.data_start) for header in opened.headers}
    tensors = {
        name: replace(tensor, read=partial(contents[tensor.file].tensor, opened.tensors[name], tensor.dtype))
        for name, tensor in checkpoint.tensors.items()
    }

    def release() -> None:
        for content in contents.values():
            content.data = None

    return ReadFile(checkpoint=replace(checkpoint, tensors=tensors), sha256=contents[file].sha256, release=release)


class _Content:
    """The bytes of a safetensors file, None when they were released, and their hash."""

    def __init__(self, path: Path, start: int) -> None:
        self.path, self.start = path, start
        data = read_data(path, 0, (stamp_of(path)[1],), torch.uint8)
        self.sha256 = hashlib.sha256(data.numpy().data).hexdigest()
        self.data: Tensor | None = data

    def tensor(self, entry: Entry, dtype: torch.dtype) -> Tensor:
        """A copy of one tensor. Raises WeightsError when the file is another one than it was."""
        data = self.data
        if data is None:
            again = _Content(self.path, self.start)
            if again.sha256 != self.sha256:
                raise WeightsError(
                    f"{self.path} changed after it was read; load the model again", code="weights_changed_meanwhile"
                )
            data = self.data = again.data
        assert data is not None, "a file that was read now is not released"
        return data[self.start + entry.begin : self.start + entry.end].clone().view(dtype).view(entry.shape)


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
