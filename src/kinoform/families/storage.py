"""How much a set of tensors holds, and how its numbers are stored."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol, runtime_checkable

from kinoform.checkpoints.headers import WIDTHS

MARKER = "scaled_fp8"
MIXED = (".weight_scale", ".weight_scale_2", ".input_scale", ".comfy_quant")
SCALED = (".scale_weight", ".scale_input")
QUANTIZATION = "_quantization_metadata"

FP8 = {"F8_E4M3", "F8_E5M2"}
SPELLINGS = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
"""PyTorch's names of dtypes as safetensors spells them."""


@runtime_checkable
class Described(Protocol):
    """A tensor of a header or of a checkpoint; `dtype` is a spelling of safetensors or GGUF, or PyTorch's."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """`dtypes` count tensors by spelling; `parameters` are numbers, without scales."""

    dtypes: Mapping[str, int]
    tensors: int
    parameters: int
    bytes: int


def amounts(tensors: Mapping[str, Described]) -> Amounts:
    dtypes = Counter(spelled(tensor) for tensor in tensors.values())
    return Amounts(
        dtypes=dict(sorted(dtypes.items())),
        tensors=len(tensors),
        parameters=sum(prod(tensor.shape) for name, tensor in tensors.items() if not is_side(name)),
        bytes=sum(_length(tensor) for tensor in tensors.values()),
    )


def storage(tensors: Mapping[str, Described], path: Path, metadata: Mapping[str, str]) -> str:
    """plain, fp8 (a cast), fp8-scaled (scale_weight), fp8-mixed (weight_scale) or gguf."""
    found = {spelled(tensor) for tensor in tensors.values()}
    if path.suffix.lower() == ".gguf" or not found <= WIDTHS.keys():
        return "gguf"
    eight_bits = bool(found & {*FP8, "I8", "U8"})
    if any(name.endswith(MIXED) for name in tensors) or (eight_bits and QUANTIZATION in metadata):
        return "fp8-mixed"
    if any(name == MARKER or name.endswith(SCALED) for name in tensors):
        return "fp8-scaled"
    return "fp8" if found & FP8 else "plain"


def is_side(name: str) -> bool:
    """Whether this belongs to how a weight is stored, and is no parameter itself."""
    return name == MARKER or name.endswith((*MIXED, *SCALED))


def spelled(tensor: Described) -> str:
    """The dtype as safetensors or GGUF spells it."""
    name = str(tensor.dtype).removeprefix("torch.")
    return SPELLINGS.get(name, name)


def _length(tensor: Described) -> int:
    """Bytes in the file."""
    begin, end = getattr(tensor, "begin", None), getattr(tensor, "end", None)
    if isinstance(begin, int) and isinstance(end, int):
        return end - begin
    return prod(tensor.shape) * WIDTHS.get(spelled(tensor), 0)
