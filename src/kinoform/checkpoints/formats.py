"""Tensors of two file formats, opened by their headers: safetensors, and PyTorch's zip of tensors.

Both are read without running anything that the file says.
"""

import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from kinoform.checkpoints.headers import (
    FETCH,
    HEADER_BYTES,
    MAX_TENSORS,
    Entry,
    Header,
    check_file,
    stamp_of,
)
from kinoform.checkpoints.storage import TORCH_NAMES, spelled
from kinoform.errors import WeightsError
from kinoform.models.packed import Packing

DTYPES: dict[str, torch.dtype] = {spelling: getattr(torch, name) for spelling, name in TORCH_NAMES.items()}
REMAPPED = 128_000_000
NESTED, SHOWN = 2, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One tensor of a file: what its header says, and `read`, which fetches a fresh copy of the data.

    `head` fetches so many of the first numbers alone, where the file holds them one behind the other.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path
    read: Callable[[], Tensor]
    head: Callable[[int], Tensor] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedStored(Stored):
    """A stored matrix that can be had in two ways.

    `read` gives float32 numbers; `rows` gives what the file holds of each row, to be kept as it is: `nbytes` in all.
    """

    rows: Callable[[], UInt8[Tensor, "n bytes"]]
    packing: Packing
    nbytes: int


def stored(header: Header) -> dict[str, Stored]:
    """The tensors that a header describes; nothing of them is read yet."""
    tensors = {}
    for name, entry in header.entries.items():
        dtype = DTYPES[entry.dtype]
        begin = header.data_start + entry.begin
        read = partial(read_data, header.path, begin, entry.shape, dtype)
        head = partial(_head, header.path, begin, prod(entry.shape), dtype)
        tensors[name] = Stored(shape=entry.shape, dtype=dtype, file=header.path, read=read, head=head)
    return tensors


def read_data(path: Path, start: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Read a tensor that lies in one piece from byte `start` on. Raises WeightsError when the file has shrunk."""
    # Read, not mapped: a file that shrinks under a mapping kills the process, and a mapping that has been
    # walked through counts as memory in use.
    data = torch.empty(prod(shape) * dtype.itemsize, dtype=torch.uint8, device="cpu")
    try:
        with path.open("rb") as file:
            file.seek(start)
            got = file.readinto(data.numpy().data)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read any more ({error.strerror}); {FETCH}", code="weights_unreadable"
        ) from error
    if got != len(data):
        raise WeightsError(f"{path} was cut short while it was being read; {FETCH}", code="weights_changed_meanwhile")
    return data.view(dtype).view(shape)


def _head(path: Path, start: int, held: int, dtype: torch.dtype, count: int) -> Tensor:
    return read_data(path, start, (min(held, count),), dtype)


def read_pickle_header(path: Path) -> Header:
    """Describe the tensors of a pickle that holds one dictionary of them, in others or not; nothing stays mapped.

    Raises WeightsError for anything else. Code in the file is never run: only PyTorch's reader of plain
    tensors sees it, after the archive's sizes have been checked.
    """
    check_file(path)
    stamp = stamp_of(path)
    _check_archive(path)
    entries = {
        name: Entry(tuple(value.shape), spelled(value), 0, value.nbytes) for name, value in _mapped(path).items()
    }
    return Header(path=path, entries=entries, metadata={}, data_start=0, stamp=stamp)


def pickle_stored(header: Header) -> dict[str, Stored]:
    """The tensors that the header of a pickle describes; they are memory-mapped while they are read one by one."""
    mapping, tensors = _Mapping(header.path), {}
    for name, entry in header.entries.items():
        dtype = _dtype(entry.dtype)
        read = partial(mapping.copy, name, entry.shape, dtype)
        tensors[name] = Stored(shape=entry.shape, dtype=dtype, file=header.path, read=read)
    return tensors


def _dtype(name: str) -> torch.dtype:
    """PyTorch's dtype of an entry's, whether safetensors has a word for it or not."""
    return DTYPES[name] if name in DTYPES else getattr(torch, name)


class _Mapping:
    """The tensors of a file, mapped when the first is read, and anew after REMAPPED bytes: pages that were read count
    as memory in use."""

    def __init__(self, path: Path) -> None:
        self.path, self.tensors, self.read = path, dict[str, Tensor](), 0

    def copy(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if not self.tensors or self.read > REMAPPED:
            self.tensors = {}  # or both mappings would be there at once
            self.tensors, self.read = _mapped(self.path), 0
        value = self.tensors.get(name)
        if value is None or value.shape != shape or value.dtype != dtype:
            raise WeightsError(
                f"{self.path} changed while it was being read; {FETCH}", code="weights_changed_meanwhile"
            )
        self.read += value.nbytes
        return value.detach().clone(memory_format=torch.contiguous_format)


def _mapped(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds code or objects besides tensors, and none of it was run; get the .safetensors",
            code="pickle_unsafe",
        ) from error
    except Exception as error:  # damaged bytes lead the reader to errors of every kind
        raise WeightsError(f"{path} is damaged; {FETCH}", code="weights_damaged") from error
    if not isinstance(loaded, Mapping):
        raise WeightsError(
            f"{path} holds a {type(loaded).__name__}, not a dictionary of tensors", code="pickle_unsupported"
        )
    size = path.stat().st_size
    tensors = _innermost(path, loaded)
    for name, value in tensors.items():
        if value.layout != torch.strided or not value.is_cpu:
            raise WeightsError(
                f"{path} is not a plain dictionary of tensors: {name!r} is something else", code="pickle_unsupported"
            )
        if value.numel() * value.element_size() > size:
            raise WeightsError(
                f"{path} claims a tensor {name!r} that is larger than the file; {FETCH}", code="weights_damaged"
            )
    return tensors


def _innermost(path: Path, loaded: Mapping[object, object]) -> dict[str, Tensor]:
    """Find the only dictionary of tensors, though it lie in others, as trainers save it beside their state."""
    dictionaries = list(_dictionaries((), loaded))
    if not dictionaries:
        others = [name for name, item in loaded.items() if not isinstance(name, str) or not isinstance(item, Tensor)]
        raise WeightsError(
            f"{path} is not a plain dictionary of tensors: {str(others[0])[:SHOWN]!r} is something else"
            if others
            else f"{path} holds no tensors; {FETCH}",
            code="pickle_unsupported",
        )
    if len(dictionaries) > 1:
        keys = [key for key, _ in dictionaries]
        chosen = next((key for key in keys if "ema" in key[-1].lower()), keys[0])
        inside, target = "".join(f"[{word!r}]" for word in chosen), path.with_suffix(f".{chosen[-1]}.pth")
        listed = ", ".join(".".join(key)[:SHOWN] for key in keys)
        raise WeightsError(
            f"{path} holds {len(dictionaries)} dictionaries of tensors, {listed}; "
            'write the one you want to a file of its own, with: python -c "import torch; torch.save(torch.load('
            f"{str(path)!r}, map_location='cpu', weights_only=True){inside}, {str(target)!r})\"",
            code="weights_ambiguous",
        )
    return dictionaries[0][1]


def _dictionaries(
    key: tuple[str, ...], value: Mapping[object, object]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield each dictionary of named tensors and nothing else, behind the keys that lead to it."""
    named = {name: item for name, item in value.items() if isinstance(name, str)}
    tensors = {name: item for name, item in named.items() if isinstance(item, Tensor)}
    if tensors and len(tensors) == len(value):
        yield key, tensors
    elif len(key) < NESTED:
        for name, item in named.items():
            if isinstance(item, Mapping):
                yield from _dictionaries((*key, name), item)


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is cut short, damaged, or older than PyTorch 1.6; {FETCH} or get the .safetensors",
            code="weights_damaged",
        ) from error
    if len(records) > MAX_TENSORS:
        raise WeightsError(
            f"{path} holds more than {MAX_TENSORS} tensors; it is not a model of this family", code="weights_too_many"
        )
    packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    pickles = max((record.file_size for record in records if record.filename.endswith(".pkl")), default=0)
    if packed or pickles > HEADER_BYTES or sum(r.file_size for r in records) > path.stat().st_size:
        raise WeightsError(
            f"{path} is packed in a way that PyTorch never writes; get the .safetensors", code="pickle_unsupported"
        )
