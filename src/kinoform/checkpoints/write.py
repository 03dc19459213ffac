"""Safetensors files written tensor by tensor: header first, then the data, so that one tensor at a time is in memory.

The format's own library writes only tensors that are all in memory. https://github.com/huggingface/safetensors
"""

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from kinoform.checkpoints.file_sets import shard_name
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.storage import spelled
from kinoform.errors import NonFiniteError, UsageError, WeightsError
from kinoform.ops.fp8 import widened

CHUNK = 1 << 22
"""Numbers that are cast at once."""

ALIGNMENT = 8
ENTRY = 256
"""Bytes that a tensor takes in a header besides its name, generously."""

METADATA = {"format": "pt"}
"""Metadata without which transformers refuses a file."""

Wrote = Callable[[int], None]
"""Called with the bytes just written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A tensor to be written as `dtype`; `read` fetches it when its turn comes."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def outgoing(name: str, value: Tensor, dtype: torch.dtype | None = None, label: str = "") -> Outgoing:
    """Prepare a tensor in memory to be written, as `dtype` or (None) as it is.

    Raises NonFiniteError, which begins with `label`, for NaN, infinity, and values too large for the dtype.
    """
    cast = value.detach().to(device="cpu", dtype=dtype or value.dtype).contiguous()
    if not cast.isfinite().all():
        raise NonFiniteError(
            f"{label}{name} is NaN, infinite or too large for {cast.dtype}; nothing was written", code="not_finite"
        )
    return Outgoing(name=name, shape=tuple(cast.shape), dtype=cast.dtype, read=lambda: cast)


def stored_outgoing(name: str, stored: Stored, dtype: torch.dtype | None = None) -> Outgoing:
    """Prepare a tensor of a file to be written under a name, as `dtype` or (None) as it is stored."""
    return Outgoing(name=name, shape=stored.shape, dtype=dtype or stored.dtype, read=stored.read)


def write_safetensors(
    path: Path, tensors: Iterable[Outgoing], wrote: Wrote, metadata: Mapping[str, str] = METADATA
) -> None:
    """Write one file, the widest numbers first, so that each tensor lies at a multiple of its width.

    Raises WeightsError for values that are too large for their dtype, and as the readers do.
    """
    ordered = sorted(tensors, key=lambda tensor: -tensor.dtype.itemsize)
    with path.open("wb") as file:
        file.write(_header(ordered, metadata))
        for tensor in ordered:
            flat = tensor.read().flatten()
            for part in flat.split(CHUNK):
                data = _cast(path, tensor, part)
                file.write(data.contiguous().view(torch.uint8).numpy().data)
                wrote(data.nbytes)
            del flat


def write_set(folder: Path, stem: str, tensors: Sequence[Outgoing], limit: int | None, wrote: Wrote) -> None:
    """Write one file, or with `limit` (bytes) numbered shards that are no larger files, with their index.

    Raises UsageError when one tensor alone is larger than a shard; otherwise as `write_safetensors`.
    """
    shards = [list(tensors)] if limit is None else _shards(stem, tensors, limit)
    if len(shards) == 1:
        write_safetensors(folder / f"{stem}.safetensors", shards[0], wrote)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = shard_name(stem, number, len(shards))
        write_safetensors(folder / name, shard, wrote)
        weight_map |= {tensor.name: name for tensor in shard}
    index = {"metadata": {"total_size": sum(tensor.bytes for tensor in tensors)}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _header(tensors: Iterable[Outgoing], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    begin = 0
    for tensor in tensors:
        end = begin + tensor.bytes
        entries[tensor.name] = {"dtype": spelled(tensor), "shape": tensor.shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _cast(path: Path, tensor: Outgoing, part: Tensor) -> Tensor:
    if part.dtype == tensor.dtype:
        return part
    data = widened(part, tensor.dtype)
    if not data.isfinite().all():
        fault = "values too large" if part.isfinite().all() else "NaN or infinity, which it would hide"
        raise WeightsError(
            f"{tensor.name} has {fault} for {tensor.dtype}; {path.name} was not written",
            code="weights_overflow_dtype" if part.isfinite().all() else "weights_not_finite",
        )
    return data


def _shards(stem: str, tensors: Iterable[Outgoing], limit: int) -> list[list[Outgoing]]:
    """Divide tensors in their order, a new shard whenever the next would not fit."""
    shards: list[list[Outgoing]] = [[]]
    left = room = limit - ENTRY
    for tensor in tensors:
        needed = tensor.bytes + len(tensor.name.encode()) + ENTRY
        if needed > room:
            raise UsageError(
                f"{stem}: {tensor.name} alone needs a file of {needed + ENTRY} bytes; make shards (--shard-size, "
                "max_shard_bytes) no smaller than that",
                code="shard_too_small",
            )
        if needed > left:
            shards.append([])
            left = room
        shards[-1].append(tensor)
        left -= needed
    return shards
