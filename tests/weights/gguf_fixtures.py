"""GGUF files written by the gguf package itself, and by hand where they must be wrong."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

KINDS = gguf.GGMLQuantizationType
QUANTISABLE = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
K_QUANTS = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
"""Where the float16 scales of a block lie, in bytes."""

FURTHER = {"IQ4_NL": (0,), "IQ4_XS": (0,)}


def write_gguf(
    path: Path,
    tensors: Mapping[str, Tensor],
    quantisations: Mapping[str, str],
    *,
    architecture: str = "wan",
    values: Mapping[str, str] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Path:
    """Tensors in the quantisation that is named for them, else in their own dtype."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (values or {}).items():
        writer.add_string(key, value)
    for name, shape in (shapes or {}).items():
        writer.add_array(f"comfy.gguf.orig_shape.{name}", list(shape))
    for name, value in tensors.items():
        kind = KINDS[quantisations.get(name, "BF16" if value.dtype == torch.bfloat16 else "F32")]
        array = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
        if kind == KINDS.F32 and value.dtype == torch.float16:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    return finish(writer, path)


def write_blocks(path: Path, name: str, quantisation: str, rows: np.ndarray) -> Path:
    """One tensor whose blocks are given as bytes [rows, bytes]."""
    writer = gguf.GGUFWriter(path, "wan")
    writer.add_tensor(name, rows, raw_dtype=KINDS[quantisation])
    return finish(writer, path)


def random_blocks(quantisation: str, rows: int, blocks: int, seed: int = 0) -> np.ndarray:
    """Any bytes are a block, as long as its float16 scales are finite."""
    _, width = gguf.GGML_QUANT_SIZES[KINDS[quantisation]]
    generator = np.random.default_rng(seed)
    packed = generator.integers(0, 256, (rows, blocks, width), dtype=np.uint8)
    for place in {**K_QUANTS, **FURTHER}[quantisation]:
        scales = generator.uniform(0.5, 2.0, (rows, blocks, 1)).astype(np.float16)
        packed[:, :, place : place + 2] = scales.view(np.uint8)
    return packed.reshape(rows, blocks * width)


def raw_gguf(
    tensors: list[tuple[str, list[int], int, int]],
    pairs: bytes = b"",
    *,
    count: int | None = None,
    pair_count: int = 0,
    version: int = 3,
    data: bytes = b"",
) -> bytes:
    """A file from (name, dimensions, type, place), as they are to stand in it; the counts may lie."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors) if count is None else count, pair_count) + pairs
    for name, dims, kind, place in tensors:
        head += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, place)
    return head + bytes(-len(head) % 32) + data


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pair(key: str, kind: int, layout: str, *numbers: Any) -> bytes:
    return text(key) + struct.pack("<I", kind) + struct.pack(f"<{layout}", *numbers)


def finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
