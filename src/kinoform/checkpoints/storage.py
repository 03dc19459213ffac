"""Spellings of how numbers are stored in files: dtypes, and the names of scales beside weights. Needs no PyTorch."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol, runtime_checkable

TORCH_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""PyTorch's names of dtypes by their spelling in safetensors and GGUF."""

WIDTHS = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of one number by the spelling of its dtype."""

FP8 = {"F8_E4M3", "F8_E5M2"}
SPELLINGS = {name: spelling for spelling, name in TORCH_NAMES.items()}

MARKER = "scaled_fp8"
"""An empty tensor which says that every fp8 weight has a scale."""

WEIGHT_SCALES, INPUT_SCALES = (".scale_weight", ".weight_scale"), (".scale_input", ".input_scale")
"""Ends of names of scales: those of files with a marker, and those of mixed precision."""

SECOND_SCALE = ".weight_scale_2"
LAYER_FORMAT = ".comfy_quant"
"""The end of the name of a tensor of text on how a layer is stored."""

MIXED = (WEIGHT_SCALES[1], INPUT_SCALES[1], SECOND_SCALE, LAYER_FORMAT)
SCALED = (WEIGHT_SCALES[0], INPUT_SCALES[0])

QUANTIZATION = "_quantization_metadata"
"""The key of a header's metadata that lists how layers are stored."""


@runtime_checkable
class Described(Protocol):
    """Tensor of a header or of a checkpoint; `dtype` is a spelling of safetensors or GGUF, or PyTorch's."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorStats:
    """Counts of a set of tensors: `dtypes` by spelling; `parameters` are numbers, without scales."""

    dtypes: Mapping[str, int]
    tensors: int
    parameters: int
    bytes: int


def tensor_stats(tensors: Mapping[str, Described]) -> TensorStats:
    """Count tensors, numbers and bytes."""
    dtypes = Counter(spelled(tensor) for tensor in tensors.values())
    return TensorStats(
        dtypes=dict(sorted(dtypes.items())),
        tensors=len(tensors),
        parameters=sum(prod(tensor.shape) for name, tensor in tensors.items() if not is_side(name)),
        bytes=sum(_length(tensor) for tensor in tensors.values()),
    )


def storage(tensors: Mapping[str, Described], path: Path, metadata: Mapping[str, str]) -> str:
    """Name the storage: plain, fp8 (a cast), fp8-scaled (scale_weight), fp8-mixed (weight_scale) or gguf."""
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
    """Return whether a tensor of that name belongs to how a weight is stored, and is no parameter itself."""
    return name == MARKER or name.endswith((*MIXED, *SCALED))


def spelled(tensor: Described) -> str:
    """The dtype as safetensors or GGUF spells it."""
    name = str(tensor.dtype).removeprefix("torch.")
    return SPELLINGS.get(name, name)


def _length(tensor: Described) -> int:
    """Count the bytes in the file."""
    begin, end = getattr(tensor, "begin", None), getattr(tensor, "end", None)
    if isinstance(begin, int) and isinstance(end, int):
        return end - begin
    return prod(tensor.shape) * WIDTHS.get(spelled(tensor), 0)
