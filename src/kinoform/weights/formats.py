"""The two file formats of weights, opened by their headers: safetensors, and PyTorch's zip of tensors.

Both are read without running anything that the file says. https://github.com/huggingface/safetensors
"""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinoform.errors import WeightsError

MAX_TENSORS = 100_000
HEADER_BYTES = 32_000_000
"""More than any header or pickle of MAX_TENSORS real names; checked before it is read."""

FETCH = "fetch it again"
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One tensor of a file: what its header says, and `read`, which fetches a fresh copy of the data."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path
    read: Callable[[], Tensor]


def check_file(path: Path) -> None:
    """Raises WeightsError when the file is missing, empty, a web page, or a git-LFS pointer."""
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; check the name, or {FETCH}")
    try:
        with path.open("rb") as file:
            start = file.read(256).lstrip().lower()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if not start:
        raise WeightsError(f"{path} is empty; {FETCH}")
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise WeightsError(f"{path} is a web page, not weights: log in where it comes from and {FETCH}")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a git-LFS pointer, not the file itself; run: git lfs pull")


def open_safetensors(path: Path) -> dict[str, Stored]:
    """Tensors by name. Raises WeightsError when the header is damaged or does not describe the whole file."""
    check_file(path)
    length, header = _header(path)
    header.pop("__metadata__", None)
    tensors, places = {}, []
    for name, entry in header.items():
        try:
            shape, dtype = tuple(entry["shape"]), DTYPES[entry["dtype"]]
            begin, end = entry["data_offsets"]
            fits = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
            fits = fits and end - begin == prod(shape) * dtype.itemsize
        except KeyError as error:
            raise WeightsError(f"{path}: tensor {name!r} has no known {error}; {FETCH}") from error
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{path}: the header entry of {name!r} is damaged; {FETCH}") from error
        if not fits:
            raise WeightsError(f"{path}: tensor {name!r} of shape {list(shape)} is not as long; {FETCH}")
        read = partial(_read, path, 8 + length + begin, shape, dtype)
        tensors[name] = Stored(shape=shape, dtype=dtype, file=path, read=read)
        places.append((begin, end))
    _check_cover(path, 8 + length, sorted(places))
    return tensors


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start.ljust(8, b"\0"))[0]
        if not 2 <= length <= min(path.stat().st_size - 8, HEADER_BYTES):
            raise WeightsError(f"{path} is not a safetensors file, or is cut short; {FETCH}")
        text = file.read(length)
    if text.count(b'"data_offsets"') > MAX_TENSORS:
        raise WeightsError(f"{path} holds more than {MAX_TENSORS} tensors; it is not a model of this family")
    try:
        header = json.loads(text, object_pairs_hook=partial(_without_repeats, path))
    except WeightsError:
        raise
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} has a damaged header; {FETCH}") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{path} has a damaged header; {FETCH}")
    return length, header


def _without_repeats(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise WeightsError(f"{path} names a tensor twice in its header; {FETCH}")
    return found


def _check_cover(path: Path, start: int, places: list[tuple[int, int]]) -> None:
    """The tensors follow each other without gap or overlap, up to the end of the file."""
    position = 0
    for begin, end in places:
        if begin != position:
            raise WeightsError(f"{path} has a damaged header: its tensors overlap or leave gaps; {FETCH}")
        position = end
    size = path.stat().st_size
    if size != start + position:
        wrong = "cut short" if size < start + position else "too long"
        raise WeightsError(f"{path} is {wrong}: {size} bytes instead of {start + position}; {FETCH}")


def _read(path: Path, start: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    # Read, not mapped: a file that shrinks under a mapping kills the process, and a mapping that has been
    # walked through counts as memory in use.
    data = torch.empty(prod(shape) * dtype.itemsize, dtype=torch.uint8, device="cpu")
    try:
        with path.open("rb") as file:
            file.seek(start)
            got = file.readinto(data.numpy().data)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read any more ({error.strerror}); {FETCH}") from error
    if got != len(data):
        raise WeightsError(f"{path} was cut short while it was being read; {FETCH}")
    return data.view(dtype).view(shape)


def open_pickle(path: Path) -> dict[str, Stored]:
    """Tensors by name of a `.pth` file that is a plain dictionary of tensors; the data is memory-mapped.

    Raises WeightsError for anything else. Code in the file is never run: only PyTorch's reader of plain
    tensors sees it, after the archive's sizes have been checked.
    """
    check_file(path)
    _check_archive(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds code or objects besides tensors, and none of it was run; get the .safetensors"
        ) from error
    except Exception as error:  # damaged bytes lead the reader to errors of every kind
        raise WeightsError(f"{path} is damaged; {FETCH}") from error
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path} holds a {type(loaded).__name__}, not a dictionary of tensors")
    size = path.stat().st_size
    for name, value in loaded.items():
        plain = isinstance(value, Tensor) and value.layout == torch.strided and value.is_cpu
        if not isinstance(name, str) or not plain:
            raise WeightsError(f"{path} is not a plain dictionary of tensors: {name!r} is something else")
        if value.numel() * value.element_size() > size:
            raise WeightsError(f"{path} claims a tensor {name!r} that is larger than the file; {FETCH}")
    return {
        name: Stored(shape=tuple(value.shape), dtype=value.dtype, file=path, read=partial(_copy, value))
        for name, value in loaded.items()
    }


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is cut short, damaged, or older than PyTorch 1.6; {FETCH} or get the .safetensors"
        ) from error
    if len(records) > MAX_TENSORS:
        raise WeightsError(f"{path} holds more than {MAX_TENSORS} tensors; it is not a model of this family")
    packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    pickles = max((record.file_size for record in records if record.filename.endswith(".pkl")), default=0)
    if packed or pickles > HEADER_BYTES or sum(r.file_size for r in records) > path.stat().st_size:
        raise WeightsError(f"{path} is packed in a way that PyTorch never writes; get the .safetensors")


def _copy(mapped: Tensor) -> Tensor:
    return mapped.detach().clone(memory_format=torch.contiguous_format)
