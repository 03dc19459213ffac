"""GGUF files as tensors: each is unpacked when it is read, or kept packed (see models/packed.py).

Blocks are unpacked by the gguf package: pip install 'kinoform[gguf]'. https://github.com/ggml-org/ggml
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from types import ModuleType

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from kinoform.checkpoints.formats import DTYPES, PackedStored, Stored, read_data
from kinoform.checkpoints.gguf_header import STORAGE
from kinoform.checkpoints.headers import Entry, Header
from kinoform.errors import UsageError

BLOCK = {name: values for name, values, _ in STORAGE.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Rows of blocks of one GGUF quantisation, such as Q8_0: 32 int8 behind their float16 scale."""

    quantisation: str

    def unpack(self, rows: UInt8[Tensor, "n bytes"]) -> Float32[Tensor, "n columns"]:
        package = _package()
        kind = package.GGMLQuantizationType[self.quantisation]
        return torch.from_numpy(package.quants.dequantize(rows.cpu().numpy(), kind)).to(rows.device)


def gguf_stored(header: Header) -> dict[str, Stored]:
    """The tensors that a GGUF header describes, of which nothing is read yet; quantised matrices can be kept packed.

    Raises UsageError when the gguf package is needed and missing.
    """
    if any(entry.dtype not in DTYPES for entry in header.entries.values()):
        _package()
    return {name: _stored(header.path, header.data_start, entry) for name, entry in header.entries.items()}


def _stored(path: Path, start: int, entry: Entry) -> Stored:
    if entry.dtype in DTYPES:
        dtype = DTYPES[entry.dtype]
        read = partial(read_data, path, start + entry.begin, entry.shape, dtype)
        return Stored(shape=entry.shape, dtype=dtype, file=path, read=read)
    # Blocks may run across the rows of a tensor that was flattened before it was quantised.
    whole = len(entry.shape) >= 2 and prod(entry.shape[1:]) % BLOCK[entry.dtype] == 0
    count = prod(entry.shape[:1]) if whole else 1
    packing = Blocks(quantisation=entry.dtype)
    width = (entry.end - entry.begin) // max(count, 1)
    rows = partial(read_data, path, start + entry.begin, (count, width), torch.uint8)
    read = partial(_unpacked, rows, packing, entry.shape)
    if not whole or len(entry.shape) > 2:
        return Stored(shape=entry.shape, dtype=torch.float32, file=path, read=read)
    return PackedStored(
        shape=entry.shape, dtype=torch.float32, file=path, read=read, rows=rows, packing=packing, nbytes=count * width
    )


def _unpacked(rows: partial[Tensor], packing: Blocks, shape: tuple[int, ...]) -> Tensor:
    return packing.unpack(rows()).view(shape)


def _package() -> ModuleType:
    try:
        import gguf
    except ImportError as error:
        raise UsageError(
            "reading quantised GGUF files needs the package gguf: pip install 'kinoform[gguf]'", code="package_missing"
        ) from error
    return gguf
