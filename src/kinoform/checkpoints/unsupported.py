"""Storage of numbers that kinoform does not read, known by names, dtypes, shapes and metadata, and refused by name.

Sources: the writers' own formats of state dicts: optimum-quanto, bitsandbytes, torchao, nunchaku, TurboDiffusion,
compressed-tensors, AutoAWQ and GPTQModel, HQQ, DFloat11, MLX, and ComfyUI's mixed precision.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import ceil, prod
from pathlib import Path

from kinoform.checkpoints.headers import json_object
from kinoform.checkpoints.storage import (
    FP8,
    INPUT_SCALES,
    LAYER_FORMAT,
    QUANTIZATION,
    WEIGHT_SCALES,
    Described,
    spelled,
)
from kinoform.errors import WeightsError

NAMED = {
    "quanto": re.compile(r"\.weight\._(?:data|scale|shift)(?:\._(?:data|scale|shift))*$"),
    "bitsandbytes NF4 or FP4": re.compile(r"\.weight\.(?:absmax|quant_map|nested_\w+|quant_state\.\w+)$"),
    "bitsandbytes int8": re.compile(r"\.(?:SCB|weight_format)$"),
    "SVDQuant (nunchaku)": re.compile(r"\.(?:wscales|wcscales|wtscale|smooth_factor|smooth_factor_orig)$"),
    "torchao": re.compile(r":(?:qdata|scale|zero_point|tensor_impl\S*)$|\._weight_(?:qdata|scale|zero_point)$"),
    "TurboDiffusion int8": re.compile(r"\.int8_weight$"),
    "AWQ or GPTQ": re.compile(r"\.(?:qweight|qzeros|g_idx)$"),
    "compressed-tensors": re.compile(r"\.weight_(?:packed|global_scale|zero_point)$"),
    "NVFP4": re.compile(r"\.weight_scale_2$"),
    "fp8 in blocks": re.compile(r"\.weight_scale_inv$"),
    "DFloat11": re.compile(r"\.(?:encoded_exponent|sign_mantissa)$"),
    "HQQ": re.compile(r"\.W_q$"),
}
"""Storage -> a name that only it has, the more telling first: nunchaku too has a qweight."""

KNOWN_SCALES = {ending.removeprefix(".") for ending in (*WEIGHT_SCALES, *INPUT_SCALES)}
WIDE = {"F32", "F16", "BF16"}
INTEGERS = {"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"}
BLOCKS = (128, 64, 32)

FORMATS = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int8_tensorwise": "I8"}
"""Formats of ComfyUI that are read, and the dtype of their weights."""

HINTS = {"format", "full_precision_matrix_mult", "orig_dtype", "orig_shape", "per_row"}
"""Settings of a layer that do not change its numbers; another one may, as a rotation of the weights does."""

SHOWN = 80


def check_storage(path: Path, tensors: Mapping[str, Described], metadata: Mapping[str, str]) -> None:
    """Check that tensors are stored in a way that kinoform reads. Raises WeightsError naming the other way."""
    if (found := unread_storage(tensors, metadata)) is not None:
        storage, name = found
        raise WeightsError(
            f"{path} is {storage} storage ({name[:SHOWN]!r}), which kinoform does not read; get the same model in "
            "bf16, fp16, fp8 (a cast, or with plain scales) or GGUF",
            code="weights_unsupported_storage",
        )


def unread_storage(tensors: Mapping[str, Described], metadata: Mapping[str, str]) -> tuple[str, str] | None:
    """Name the storage and a tensor that shows it; None for storage that is read, or damaged."""
    for storage, ending in NAMED.items():
        if (name := next((name for name in tensors if ending.search(name)), None)) is not None:
            return storage, name
    if metadata.get("format") == "mlx":
        return "MLX", next(iter(tensors), "")
    described = ((what, name) for name, settings in _formats(metadata) if (what := unread_format(settings)))
    return next(described, None) or next(_by_dtypes(tensors), None)


def unread_format(settings: Mapping[str, object]) -> str | None:
    """Describe a layer of ComfyUI whose numbers kinoform cannot make; None for a layer whose numbers it can."""
    format = settings.get("format")
    changes = sorted(key for key, value in settings.items() if value and key not in HINTS)
    if isinstance(format, str) and format in FORMATS and not changes:
        return None
    return f"{str(format)[:SHOWN]!r}" + (f" with {', '.join(changes)[:SHOWN]!r}" if changes else "")


def _formats(metadata: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the settings of layers by name, from the header and from the texts of layers, but for damaged ones."""
    with suppress(WeightsError):
        whole = json_object(QUANTIZATION, metadata.get(QUANTIZATION, ""), "weights_damaged").get("layers")
        yield from whole.items() if isinstance(whole, dict) and all(isinstance(v, dict) for v in whole.values()) else ()
    for name, text in metadata.items():
        if name.endswith(LAYER_FORMAT):
            with suppress(WeightsError):
                yield name, json_object(name, text, "weights_damaged")


def _by_dtypes(tensors: Mapping[str, Described]) -> Iterator[tuple[str, str]]:
    """Yield storage whose scales are of a kind that is not read, or missing beside whole numbers."""
    beside: dict[str, list[str]] = {}
    for name in tensors:
        module, _, leaf = name.rpartition(".")
        beside.setdefault(module, []).append(leaf)
    for name, weight in tensors.items():
        module = name.removesuffix(".weight")
        dtype = spelled(weight)
        if module == name or dtype not in FP8 | INTEGERS:
            continue
        scale = next((tensors[module + ending] for ending in WEIGHT_SCALES if module + ending in tensors), None)
        leaves = beside.get(module, [])
        if "scales" in leaves and "biases" in leaves and dtype == "U32":
            yield "MLX", name
        elif scale is not None:
            if (what := _scaled(dtype, weight.shape, scale)) is not None:
                yield what, name
        elif strange := [leaf for leaf in leaves if "scale" in leaf and leaf not in KNOWN_SCALES]:
            yield f"{_word(dtype)} with scales of another kind (.{strange[0][:SHOWN]})", name
        elif dtype in INTEGERS:
            yield f"{_word(dtype)} without scales", name


def _scaled(dtype: str, shape: tuple[int, ...], scale: Described) -> str | None:
    kind = spelled(scale)
    if kind in ("F8_E8M0", "U8"):
        return "MXFP4" if dtype == "U8" else "MXFP8"
    if dtype == "U8":
        return "NVFP4" if kind in FP8 else "4 bits"
    if kind not in WIDE or dtype not in FP8 | {"I8"}:
        return f"{_word(dtype)} with scales of {_word(kind)}"
    for block in BLOCKS:
        if len(shape) == 2 and prod(scale.shape) > 1 and scale.shape == tuple(ceil(length / block) for length in shape):
            return f"{_word(dtype)} in blocks of {block}x{block}"
    return None


def _word(dtype: str) -> str:
    return {"F8_E4M3": "fp8", "F8_E5M2": "fp8", "I8": "int8", "U8": "uint8"}.get(dtype, dtype)
