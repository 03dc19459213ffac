"""Weights of eight bits with scales, in the spellings that occur, as plain numbers.

    cast      F8 weights alone: the numbers are what they are
    scaled    a marker tensor `scaled_fp8`; `<module>.scale_weight`, `<module>.scale_input`
    mixed     `_quantization_metadata` in the header or `<module>.comfy_quant`; `<module>.weight_scale`,
              `<module>.input_scale`; F8 or I8
    lightx2v  as mixed, without any marker

weight = stored * scale, in float32. A scale belongs to the matrix, a row, or a stretch of a row. The scales
of inputs serve products of two fp8 matrices; kinoform multiplies in wider numbers and does not read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from kinoform.checkpoints.files import Checkpoint
from kinoform.checkpoints.formats import DTYPES, FETCH, PackedStored, Stored
from kinoform.checkpoints.headers import FORMAT_BYTES, json_object
from kinoform.checkpoints.storage import (
    INPUT_SCALES,
    LAYER_FORMAT,
    MARKER,
    QUANTIZATION,
    SECOND_SCALE,
    WEIGHT_SCALES,
    is_side,
)
from kinoform.checkpoints.unsupported import FORMATS, unread_format
from kinoform.errors import WeightsError
from kinoform.ops.fp8 import widened

WEIGHT = ".weight"

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
EIGHT_BITS = (*FP8, torch.int8)
WIDE = (torch.float32, torch.float16, torch.bfloat16)

SHOWN = 80
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.", "text_encoders.umt5xxl.transformer.")
"""Names in the metadata may keep what has been taken from those of the tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """Rows of eight-bit numbers, each row followed by its float32 scales: none, one, or one a stretch."""

    dtype: torch.dtype
    columns: int

    def unpack(self, rows: UInt8[Tensor, "n bytes"]) -> Float32[Tensor, "n columns"]:
        numbers = widened(rows[:, : self.columns].view(self.dtype))
        if rows.shape[1] == self.columns:
            return numbers
        scales = rows[:, self.columns :].clone(memory_format=torch.contiguous_format).view(torch.float32)
        return (numbers.unflatten(1, (scales.shape[1], -1)) * scales[..., None]).flatten(1)


def plain(checkpoint: Checkpoint) -> Checkpoint:
    """Make the checkpoint in which every scale is multiplied into its weight when that is read.

    Names come without prefix. Eight-bit matrices can be kept packed (see models/packed.py). Raises
    WeightsError for a weight without its scale, a scale without its weight or of an impossible shape, and
    formats that cannot be read; and when a weight is read whose scale is not positive and finite.
    """
    tensors = checkpoint.tensors
    _refuse_four_bits(tensors)
    formats = _formats(checkpoint)
    scales = _scales(tensors)
    for module, settings in formats.items():
        _check_format(tensors, module, settings)
    if scales or formats or _is_marked(tensors):
        _check_all_scaled(tensors, scales)
    result: dict[str, Stored] = {}
    for name, stored in tensors.items():
        if is_side(name):
            continue
        scale = scales.get(name.removesuffix(WEIGHT)) if name.endswith(WEIGHT) else None
        result[name] = _cast(stored) if scale is None else _scaled(tensors, name, scale)
    return replace(checkpoint, tensors=result)


def _refuse_four_bits(tensors: Mapping[str, Stored]) -> None:
    for name, stored in tensors.items():
        if name.endswith(SECOND_SCALE):
            raise _unreadable(stored, name.removesuffix(SECOND_SCALE), "NVFP4, which has four bits a weight")


def _formats(checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
    """Read what the file says of each quantised module of this part, in its metadata or beside the weight."""
    result: dict[str, dict[str, Any]] = {}
    text = checkpoint.metadata.get(QUANTIZATION)
    if text is not None:
        layers = json_object(f"{checkpoint.path}: {QUANTIZATION!r}", text, "weights_damaged").get("layers")
        if not isinstance(layers, dict) or not all(isinstance(settings, dict) for settings in layers.values()):
            raise WeightsError(
                f"{checkpoint.path}: {QUANTIZATION} does not list the layers; {FETCH}", code="weights_damaged"
            )
        for layer, settings in layers.items():
            names = (layer, *(layer.removeprefix(prefix) for prefix in PREFIXES))
            result |= {name: settings for name in names if f"{name}{WEIGHT}" in checkpoint.tensors}
    for name, stored in checkpoint.tensors.items():
        if name.endswith(LAYER_FORMAT):
            if stored.dtype != torch.uint8 or len(stored.shape) != 1 or stored.shape[0] > FORMAT_BYTES:
                raise WeightsError(
                    f"{stored.file}: {name!r} is not a short text of bytes; {FETCH}", code="weights_damaged"
                )
            text = stored.read().numpy().tobytes()
            settings = json_object(f"{stored.file}: {name!r}", text, "weights_damaged")
            result[name.removesuffix(LAYER_FORMAT)] = settings
    return result


def _scales(tensors: Mapping[str, Stored]) -> dict[str, str]:
    """Map each module to the name of its scale; every scale has its weight, every scale of inputs its scale."""
    scales: dict[str, str] = {}
    for name, stored in tensors.items():
        module = _module(name, WEIGHT_SCALES)
        if module is None:
            continue
        if module in scales:
            raise WeightsError(
                f"{stored.file}: {module!r} has two scales, {scales[module]!r} and {name!r}; {FETCH}",
                code="weights_damaged",
            )
        weight = tensors.get(f"{module}{WEIGHT}")
        if weight is None or (weight.dtype not in EIGHT_BITS and weight.dtype != torch.uint8):
            raise WeightsError(
                f"{stored.file}: {name!r} is the scale of no eight-bit weight; {FETCH}", code="scale_without_weight"
            )
        if weight.dtype == torch.uint8 or stored.dtype not in WIDE:
            what = f"{weight.dtype} with scales of {stored.dtype}".replace("torch.", "")
            raise _unreadable(stored, module, what)
        scales[module] = name
    for name, stored in tensors.items():
        module = _module(name, INPUT_SCALES)
        if module is not None and module not in scales:
            raise WeightsError(
                f"{stored.file}: {name!r} stands alone: {module!r} has no scale of its weight; {FETCH}",
                code="scale_without_weight",
            )
    return scales


def _check_format(tensors: Mapping[str, Stored], module: str, settings: Mapping[str, Any]) -> None:
    weight = tensors.get(f"{module}{WEIGHT}")
    if weight is None:
        raise WeightsError(
            f"{tensors[module + LAYER_FORMAT].file}: {module!r} has a format and no weight; {FETCH}",
            code="weights_damaged",
        )
    if (what := unread_format(settings)) is not None:
        raise _unreadable(weight, module, what)
    format = str(settings["format"])
    if weight.dtype != DTYPES[FORMATS[format]]:
        raise WeightsError(
            f"{weight.file}: {module!r} is called {format} and stored as {weight.dtype}; {FETCH}",
            code="weights_damaged",
        )


def _is_marked(tensors: Mapping[str, Stored]) -> bool:
    """Tell whether the marker is there. Raises WeightsError for one of another shape."""
    marker = tensors.get(MARKER)
    if marker is not None and marker.shape not in ((0,), (2,)):
        raise WeightsError(
            f"{marker.file}: {MARKER} has shape {list(marker.shape)}, not [0] or [2]; {FETCH}", code="weights_damaged"
        )
    return marker is not None


def _check_all_scaled(tensors: Mapping[str, Stored], scales: Mapping[str, str]) -> None:
    for name, stored in tensors.items():
        if stored.dtype in FP8 and not is_side(name) and name.removesuffix(WEIGHT) not in scales:
            raise WeightsError(
                f"{stored.file}: {name!r} is fp8 and lacks its scale, in a file whose weights are scaled; {FETCH}",
                code="weight_without_scale",
            )


def _module(name: str, suffixes: tuple[str, ...]) -> str | None:
    return next((name.removesuffix(suffix) for suffix in suffixes if name.endswith(suffix)), None)


def _cast(stored: Stored) -> Stored:
    """Let an fp8 matrix without scale be kept packed as well."""
    if stored.dtype not in FP8 or len(stored.shape) != 2:
        return stored
    return PackedStored(
        shape=stored.shape,
        dtype=stored.dtype,
        file=stored.file,
        read=stored.read,
        rows=lambda: stored.read().view(torch.uint8),
        packing=Scaled(dtype=stored.dtype, columns=stored.shape[1]),
        nbytes=prod(stored.shape),
    )


def _scaled(tensors: Mapping[str, Stored], name: str, scale_name: str) -> Stored:
    weight, scale = tensors[name], tensors[scale_name]
    shape = (1, prod(weight.shape)) if len(weight.shape) < 2 else (weight.shape[0], prod(weight.shape[1:]))
    layout = _layout(scale, scale_name, weight.shape)
    packing = Scaled(dtype=weight.dtype, columns=shape[1])

    def rows() -> Tensor:
        scales = _read_scale(scale, scale_name).view(layout).expand(shape[0], -1).contiguous()
        return torch.cat([weight.read().view(torch.uint8).view(shape), scales.view(torch.uint8)], dim=1)

    def read() -> Tensor:
        return packing.unpack(rows()).view(weight.shape)

    if len(weight.shape) != 2:
        return Stored(shape=weight.shape, dtype=torch.float32, file=weight.file, read=read)
    return PackedStored(
        shape=weight.shape, dtype=torch.float32, file=weight.file, read=read, rows=rows, packing=packing,
        nbytes=shape[0] * (shape[1] + 4 * layout[1]),
    )  # fmt: skip


def _layout(scale: Stored, scale_name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Find the (rows, stretches) of the scales: one for all, one a row, or as many a row as divide its length."""
    if prod(scale.shape) == 1:
        return 1, 1
    if len(shape) >= 2 and scale.shape[:1] == shape[:1]:
        stretches = scale.shape[1] if len(scale.shape) > 1 else 1
        fits = stretches == 1 or (len(shape) == 2 and stretches > 0 and shape[1] % stretches == 0)
        if fits and prod(scale.shape[2:]) == 1:
            return shape[0], stretches
    raise WeightsError(
        f"{scale.file}: {scale_name!r} of shape {list(scale.shape)} cannot scale a weight of {list(shape)}; {FETCH}",
        code="scale_wrong_shape",
    )


def _read_scale(scale: Stored, name: str) -> Tensor:
    values = scale.read().float()
    if not (values.isfinite() & (values > 0)).all():
        raise WeightsError(
            f"{scale.file}: {name!r} holds a scale that is not a positive number; {FETCH}", code="weights_damaged"
        )
    return values


def _unreadable(stored: Stored, module: str, what: str) -> WeightsError:
    return WeightsError(
        f"{stored.file}: {module!r} is stored as {what}, which kinoform cannot read; "
        "get a file of bf16, or of fp8 with plain scales",
        code="weights_unsupported_storage",
    )
