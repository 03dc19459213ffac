"""Every spelling of eight-bit weights gives stored * scale, and nothing that lacks its scale is read without it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kinoform.checkpoints.files import Checkpoint, open_checkpoint
from kinoform.checkpoints.formats import PackedStored
from kinoform.checkpoints.fp8 import plain
from tests.support.refusals import refused, refused_briefly

E4M3, E5M2, I8 = torch.float8_e4m3fn, torch.float8_e5m2, torch.int8
MODULE = "blocks.0.ffn.0"
WEIGHT = f"{MODULE}.weight"


def numbers(dtype: torch.dtype, shape: tuple[int, ...] = (6, 8)) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 50
    return values.round().to(dtype) if dtype == I8 else values.to(dtype)


def checkpoint(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Checkpoint:
    save_file({name: value.clone() for name, value in tensors.items()}, folder / "w.safetensors")
    return replace(open_checkpoint(folder / "w.safetensors"), metadata=metadata or {})


def layers(settings: Any, name: str = MODULE) -> dict[str, str]:
    return {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": {name: settings}})}


def as_tensor(settings: Any) -> Tensor:
    return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)


SCALE = torch.tensor(0.25)
ROWS = torch.linspace(0.1, 0.9, 6)
STRETCHES = torch.rand(6, 4, 1, generator=torch.Generator().manual_seed(1)) + 0.1
FP8 = {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}

DIALECTS: dict[str, tuple[torch.dtype, dict[str, Tensor], dict[str, str]]] = {
    "scaled": (E4M3, {"scaled_fp8": torch.zeros(0, dtype=E4M3), f"{MODULE}.scale_weight": SCALE}, {}),
    "scaled, full precision": (E5M2, {"scaled_fp8": torch.zeros(2), f"{MODULE}.scale_weight": SCALE[None]}, {}),
    "scaled with inputs": (E4M3, {f"{MODULE}.scale_weight": SCALE, f"{MODULE}.scale_input": SCALE}, {}),
    "scaled rows": (E4M3, {"scaled_fp8": torch.zeros(2, dtype=E4M3), f"{MODULE}.scale_weight": ROWS[:, None]}, {}),
    "scaled stretches": (E4M3, {"scaled_fp8": torch.zeros(2, dtype=E4M3), f"{MODULE}.scale_weight": STRETCHES}, {}),
    "bfloat16 scales": (E4M3, {f"{MODULE}.scale_weight": ROWS[:, None].bfloat16()}, {}),
    "mixed by metadata": (E4M3, {f"{MODULE}.weight_scale": SCALE, f"{MODULE}.input_scale": SCALE}, layers(FP8)),
    "mixed, prefix kept": (E4M3, {f"{MODULE}.weight_scale": SCALE}, layers(FP8, f"model.diffusion_model.{MODULE}")),
    "mixed by tensor": (E4M3, {f"{MODULE}.weight_scale": SCALE, f"{MODULE}.comfy_quant": as_tensor(FP8)}, {}),
    "mixed e5m2": (E5M2, {f"{MODULE}.weight_scale": SCALE}, layers({"format": "float8_e5m2"})),
    "mixed int8": (I8, {f"{MODULE}.weight_scale": ROWS}, layers({"format": "int8_tensorwise", "convrot": False})),
    "lightx2v": (E4M3, {f"{MODULE}.weight_scale": ROWS[:, None]}, {}),
    "lightx2v int8": (I8, {f"{MODULE}.weight_scale": ROWS[:, None]}, {}),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_weight_is_its_number_times_its_scale(dialect: str, tmp_path: Path) -> None:
    dtype, sides, metadata = DIALECTS[dialect]
    other = {f"{MODULE}.bias": torch.ones(6), "head.modulation": torch.ones(1, 2, 8, dtype=torch.bfloat16)}
    given = checkpoint(tmp_path, {WEIGHT: numbers(dtype), **sides, **other}, metadata)
    found = plain(given)
    assert found.tensors.keys() == {WEIGHT, *other}
    assert all(torch.equal(found.read(name), value) for name, value in other.items())
    scale = next(value for name, value in sides.items() if name.endswith(("scale_weight", "weight_scale"))).float()
    if scale.numel() == STRETCHES.numel():
        scale = scale[:, :, 0].repeat_interleave(2, dim=1)
    expected = numbers(dtype).float() * (scale if scale.dim() == 2 else scale[:, None] if scale.numel() > 1 else scale)
    stored = found.tensors[WEIGHT]
    assert isinstance(stored, PackedStored)
    assert stored.dtype == torch.float32 and stored.shape == (6, 8)
    assert torch.equal(found.read(WEIGHT), expected)
    assert torch.equal(stored.packing.unpack(stored.rows()[::2]), expected[::2])


@pytest.mark.parametrize("dtype", [E4M3, E5M2])
def test_a_plain_cast_is_left_as_it_is(dtype: torch.dtype, tmp_path: Path) -> None:
    found = plain(checkpoint(tmp_path, {WEIGHT: numbers(dtype), f"{MODULE}.bias": numbers(dtype, (6,))}))
    assert found.read(WEIGHT).dtype == dtype and torch.equal(found.read(WEIGHT).float(), numbers(dtype).float())
    stored = found.tensors[WEIGHT]
    assert isinstance(stored, PackedStored)
    assert torch.equal(stored.packing.unpack(stored.rows()), numbers(dtype).float())


def test_a_file_without_eight_bits_is_left_as_it_is(tmp_path: Path) -> None:
    given = checkpoint(tmp_path, {WEIGHT: torch.ones(2, 3), "scale": torch.ones(1)})
    assert plain(given).tensors == given.tensors


def test_weights_that_are_no_matrix_are_scaled_too(tmp_path: Path) -> None:
    kernel, row = numbers(E4M3, (4, 2, 1, 2, 2)), numbers(E4M3, (5,))
    tensors = {"a.weight": kernel, "a.scale_weight": ROWS[:4, None], "b.weight": row, "b.scale_weight": SCALE}
    found = plain(checkpoint(tmp_path, tensors))
    assert torch.equal(found.read("a.weight"), kernel.float() * ROWS[:4, None, None, None, None])
    assert torch.equal(found.read("b.weight"), row.float() * SCALE)


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    given = checkpoint(tmp_path, {WEIGHT: numbers(E4M3), f"{MODULE}.scale_weight": SCALE})

    def unread() -> Tensor:
        raise AssertionError

    spied = {name: replace(stored, read=unread) for name, stored in given.tensors.items()}
    assert plain(replace(given, tensors=spied)).tensors.keys() == {WEIGHT}


MARKER = {"scaled_fp8": torch.zeros(0, dtype=E4M3)}
NVFP4 = {WEIGHT: torch.zeros(6, 4, dtype=torch.uint8), f"{MODULE}.weight_scale": torch.ones(6, 1).to(E4M3)}
BAD: dict[str, tuple[Any, ...]] = {
    "marker, no scale": ({WEIGHT: numbers(E4M3), **MARKER}, {}, "weight_without_scale", WEIGHT),
    "one of two": (
        {WEIGHT: numbers(E4M3), "b.weight": numbers(E4M3), "b.scale_weight": SCALE},
        {},
        "weight_without_scale",
        WEIGHT,
    ),
    "format, no scale": ({WEIGHT: numbers(E4M3)}, layers(FP8), "weight_without_scale", WEIGHT),
    "strange marker": ({WEIGHT: numbers(E4M3), "scaled_fp8": torch.zeros(3)}, {}, "weights_damaged", "[3]"),
    "scale without weight": (
        {f"{MODULE}.scale_weight": SCALE, "b": ROWS},
        {},
        "scale_without_weight",
        f"{MODULE}.scale_weight",
    ),
    "scale of a wide weight": (
        {WEIGHT: torch.ones(6, 8), f"{MODULE}.weight_scale": SCALE},
        {},
        "scale_without_weight",
        f"{MODULE}.weight_scale",
    ),
    "input scale alone": (
        {WEIGHT: numbers(E4M3), f"{MODULE}.input_scale": SCALE},
        {},
        "scale_without_weight",
        f"{MODULE}.input_scale",
    ),
    "both spellings": (
        {WEIGHT: numbers(E4M3), f"{MODULE}.weight_scale": SCALE, f"{MODULE}.scale_weight": SCALE.clone()},
        {},
        "weights_damaged",
        MODULE,
    ),
    "rows of another number": (
        {WEIGHT: numbers(E4M3), f"{MODULE}.scale_weight": torch.ones(5, 1)},
        {},
        "scale_wrong_shape",
        "[5, 1]",
    ),
    "columns": ({WEIGHT: numbers(E4M3), f"{MODULE}.scale_weight": torch.ones(1, 8)}, {}, "scale_wrong_shape", "[1, 8]"),
    "stretches that do not divide": (
        {WEIGHT: numbers(E4M3), f"{MODULE}.scale_weight": torch.ones(6, 3, 1)},
        {},
        "scale_wrong_shape",
        "[6, 3, 1]",
    ),
    "no stretches": (
        {WEIGHT: numbers(E4M3), f"{MODULE}.scale_weight": torch.ones(6, 0, 1)},
        {},
        "scale_wrong_shape",
        "[6, 0, 1]",
    ),
    "a scale a number": (
        {WEIGHT: numbers(E4M3), f"{MODULE}.scale_weight": torch.ones(6, 8, 2)},
        {},
        "scale_wrong_shape",
        "[6, 8, 2]",
    ),
    "nvfp4": (
        {**NVFP4, f"{MODULE}.weight_scale_2": SCALE},
        layers({"format": "nvfp4"}),
        "weights_unsupported_storage",
        "NVFP4",
    ),
    "four bits without a name": (NVFP4, {}, "weights_unsupported_storage", "uint8", "float8_e4m3fn"),
    "mxfp8": (
        {WEIGHT: numbers(E4M3), f"{MODULE}.weight_scale": torch.ones(6, 1, dtype=torch.uint8)},
        layers({"format": "mxfp8"}),
        "weights_unsupported_storage",
        "uint8",
    ),
    "unknown format": (
        {WEIGHT: numbers(E4M3), f"{MODULE}.weight_scale": SCALE},
        layers({"format": "float7"}),
        "weights_unsupported_storage",
        "'float7'",
    ),
    "rotated": (
        {WEIGHT: numbers(I8), f"{MODULE}.weight_scale": ROWS},
        layers({"format": "int8_tensorwise", "convrot": True}),
        "weights_unsupported_storage",
        "'convrot'",
    ),
    "another type than said": (
        {WEIGHT: numbers(E5M2), f"{MODULE}.weight_scale": SCALE},
        layers(FP8),
        "weights_damaged",
        "torch.float8_e5m2",
    ),
    "format of nothing": ({f"{MODULE}.comfy_quant": as_tensor(FP8), "b": ROWS}, {}, "weights_damaged", MODULE),
    "format no string": ({WEIGHT: numbers(E4M3)}, layers({"format": [1]}), "weights_unsupported_storage", "'[1]'"),
    "format no object": ({WEIGHT: numbers(E4M3)}, layers([]), "weights_damaged"),
    "no layers": ({WEIGHT: numbers(E4M3)}, {"_quantization_metadata": "{}"}, "weights_damaged"),
    "metadata no object": ({WEIGHT: numbers(E4M3)}, {"_quantization_metadata": "[]"}, "weights_damaged"),
    "metadata no JSON": ({WEIGHT: numbers(E4M3)}, {"_quantization_metadata": "{"}, "weights_damaged"),
    "deep metadata": ({WEIGHT: numbers(E4M3)}, {"_quantization_metadata": "[" * 100_000}, "weights_damaged"),
    "huge number": ({WEIGHT: numbers(E4M3)}, {"_quantization_metadata": "1" * 5000}, "weights_damaged"),
    "format tensor no text": (
        {WEIGHT: numbers(E4M3), f"{MODULE}.comfy_quant": torch.ones(4)},
        {},
        "weights_damaged",
        f"{MODULE}.comfy_quant",
    ),
    "format tensor no JSON": (
        {WEIGHT: numbers(E4M3), f"{MODULE}.comfy_quant": torch.ones(4, dtype=torch.uint8)},
        {},
        "weights_damaged",
    ),
    "long format tensor": (
        {WEIGHT: numbers(E4M3), f"{MODULE}.comfy_quant": torch.ones(5000, dtype=torch.uint8)},
        {},
        "weights_damaged",
        f"{MODULE}.comfy_quant",
    ),
}


@pytest.mark.parametrize("damage", BAD)
def test_what_cannot_be_read_rightly_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    tensors, metadata, code, *named = BAD[damage]
    with refused_briefly(code, "w.safetensors", *named):
        plain(checkpoint(tmp_path, tensors, metadata))


@pytest.mark.parametrize("value", [0.0, -0.5, torch.nan, torch.inf])
def test_scales_that_are_no_positive_number_are_found_when_they_are_read(value: float, tmp_path: Path) -> None:
    scale = ROWS[:, None].clone()
    scale[3] = value
    found = plain(checkpoint(tmp_path, {WEIGHT: numbers(E4M3), f"{MODULE}.scale_weight": scale}))
    stored = found.tensors[WEIGHT]
    assert isinstance(stored, PackedStored)
    for act in (stored.read, stored.rows):
        with refused("weights_damaged", "w.safetensors", "scale_weight'"):
            act()
