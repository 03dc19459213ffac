"""Numbers that are stored in a way that kinoform does not read: named, by `inspect` and by loading alike."""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kinoform.conversion.model_contents import model_contents
from kinoform.families.identify import inspect_path
from kinoform.loading.parts import released_parts
from tests.support.comfy_files import comfy_transformer
from tests.support.refusals import refused

E4M3, F32 = torch.float8_e4m3fn, torch.float32


def zeros(*shape: int, dtype: torch.dtype = F32) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def text(settings: Mapping[str, object]) -> Tensor:
    return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Way:
    """Tensors that stand for a matrix of a layer of `out` rows and `into` columns, and the metadata of the file."""

    called: str
    stored: Callable[[int, int], Mapping[str, Tensor]]
    metadata: Mapping[str, str] = field(default_factory=dict)


def blocks(out: int, into: int, size: int = 128, dtype: torch.dtype = F32) -> Tensor:
    return torch.ones(ceil(out / size), ceil(into / size), dtype=dtype)


WAYS = {
    "quanto int8": Way(
        called="quanto",
        stored=lambda out, into: {
            "weight._data": zeros(out, into, dtype=torch.int8),
            "weight._scale": zeros(out, 1),
            "input_scale": zeros(),
        },
    ),
    "quanto int4": Way(
        called="quanto",
        stored=lambda out, into: {
            "weight._data._data": zeros(out // 2, into, dtype=torch.uint8),
            "weight._scale": zeros(out, 1),
            "weight._shift": zeros(out, 1),
        },
    ),
    "nunchaku": Way(
        called="SVDQuant",
        stored=lambda out, into: {
            "qweight": zeros(out, into // 2, dtype=torch.int8),
            "wscales": zeros(into // 64, out),
            "smooth_factor": zeros(into),
            "proj_down": zeros(into, 8),
            "proj_up": zeros(out, 8),
        },
    ),
    "torchao": Way(
        called="torchao",
        stored=lambda out, into: {"weight:qdata": zeros(out, into, dtype=E4M3), "weight:scale": zeros(out, 1)},
    ),
    "torchao, newer": Way(
        called="torchao",
        stored=lambda out, into: {"_weight_qdata": zeros(out, into, dtype=torch.int8), "_weight_scale": zeros(out, 1)},
    ),
    "TurboDiffusion": Way(
        called="TurboDiffusion",
        stored=lambda out, into: {"int8_weight": zeros(out, into, dtype=torch.int8), "scale": blocks(out, into)},
    ),
    "nf4": Way(
        called="bitsandbytes NF4",
        stored=lambda out, into: {
            "weight": zeros(out * into // 2, 1, dtype=torch.uint8),
            "weight.absmax": zeros(out * into // 64),
            "weight.quant_map": zeros(16),
            "weight.quant_state.bitsandbytes__nf4": text({"quant_type": "nf4"}),
        },
    ),
    "int8 of bitsandbytes": Way(
        called="bitsandbytes int8",
        stored=lambda out, into: {"weight": zeros(out, into, dtype=torch.int8), "SCB": zeros(out)},
    ),
    "MLX": Way(
        called="MLX",
        stored=lambda out, into: {
            "weight": zeros(out, into // 8, dtype=torch.uint32),
            "scales": zeros(out, into // 64),
            "biases": zeros(out, into // 64),
        },
    ),
    "MLX by metadata": Way(
        called="MLX", stored=lambda out, into: {"weight": zeros(out, into)}, metadata={"format": "mlx"}
    ),
    "NVFP4 of ComfyUI": Way(
        called="NVFP4",
        stored=lambda out, into: {
            "weight": zeros(out, into // 2, dtype=torch.uint8),
            "weight_scale": zeros(out, into // 16, dtype=E4M3),
            "weight_scale_2": zeros(),
            "comfy_quant": text({"format": "nvfp4"}),
        },
    ),
    "NVFP4 with one scale": Way(
        called="NVFP4",
        stored=lambda out, into: {
            "weight": zeros(out, into // 2, dtype=torch.uint8),
            "weight_scale": zeros(out, into // 16, dtype=E4M3),
        },
    ),
    "NVFP4 of compressed-tensors": Way(
        called="compressed-tensors",
        stored=lambda out, into: {
            "weight_packed": zeros(out, into // 2, dtype=torch.uint8),
            "weight_scale": zeros(out, into // 16, dtype=E4M3),
            "weight_global_scale": zeros(1),
        },
    ),
    "MXFP4": Way(
        called="MXFP4",
        stored=lambda out, into: {
            "weight": zeros(out, into // 2, dtype=torch.uint8),
            "weight_scale": zeros(out, into // 32, dtype=torch.uint8),
        },
    ),
    "MXFP8": Way(
        called="MXFP8",
        stored=lambda out, into: {
            "weight": zeros(out, into, dtype=E4M3),
            "weight_scale": torch.ones(out, into // 32).to(torch.float8_e8m0fnu),
        },
    ),
    "int8 of ComfyUI, rotated": Way(
        called="'int8_tensorwise' with 'convrot'",
        stored=lambda out, into: {
            "weight": zeros(out, into, dtype=torch.int8),
            "weight_scale": torch.ones(out, 1),
            "comfy_quant": text({"format": "int8_tensorwise", "convrot": True}),
        },
    ),
    "int8 of ComfyUI, by metadata": Way(
        called="'int8_blockwise'",
        stored=lambda out, into: {"weight": zeros(out, into, dtype=torch.int8), "weight_scale": torch.ones(out, 1)},
        metadata={
            "_quantization_metadata": json.dumps({"layers": {"blocks.0.self_attn.q": {"format": "int8_blockwise"}}})
        },
    ),
    "int8 alone": Way(
        called="int8 without scales", stored=lambda out, into: {"weight": zeros(out, into, dtype=torch.int8)}
    ),
    "blocks": Way(
        called="fp8 in blocks of 128x128",
        stored=lambda out, into: {"weight": zeros(out, into, dtype=E4M3), "weight_scale": blocks(out, into)},
    ),
    "inverse blocks": Way(
        called="fp8 in blocks",
        stored=lambda out, into: {"weight": zeros(out, into, dtype=E4M3), "weight_scale_inv": blocks(out, into)},
    ),
    "fp8 with strange scales": Way(
        called="fp8 with scales of another kind (.weight_scales)",
        stored=lambda out, into: {"weight": zeros(out, into, dtype=E4M3), "weight_scales": torch.ones(out, 1)},
    ),
    "AWQ": Way(
        called="AWQ or GPTQ",
        stored=lambda out, into: {
            "qweight": zeros(into, out // 8, dtype=torch.int32),
            "qzeros": zeros(into // 64, out // 8, dtype=torch.int32),
            "scales": zeros(into // 64, out),
        },
    ),
    "GPTQ": Way(
        called="AWQ or GPTQ",
        stored=lambda out, into: {
            "qweight": zeros(into // 8, out, dtype=torch.int32),
            "g_idx": zeros(into, dtype=torch.int32),
            "scales": zeros(into // 64, out),
        },
    ),
    "HQQ": Way(
        called="HQQ", stored=lambda out, into: {"W_q": zeros(out, into // 2, dtype=torch.uint8), "scale": zeros(out)}
    ),
    "DFloat11": Way(
        called="DFloat11",
        stored=lambda out, into: {
            "encoded_exponent": zeros(out * into // 2, dtype=torch.uint8),
            "sign_mantissa": zeros(out * into, dtype=torch.uint8),
        },
    ),
}


def written(folder: Path, way: Way, *, prefix: str = "", suffix: str = ".safetensors") -> Path:
    """A tiny transformer whose matrices of blocks, of the text and of the head are stored so."""
    tensors: dict[str, Tensor] = {}
    for name, value in comfy_transformer().items():
        module = name.removesuffix(".weight")
        if value.dim() != 2 or module == name or "embedding" in module:
            tensors[f"{prefix}{name}"] = value
            continue
        # Wide enough for blocks of 128, whatever the tiny model has: nothing is read but names, dtypes and shapes.
        tensors |= {f"{prefix}{module}.{leaf}": each for leaf, each in way.stored(256, 256).items()}
    file = folder / f"wan{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, file, metadata=dict(way.metadata))
    else:
        torch.save(tensors, file)
    return file


def assert_refused_alike(file: Path, called: str) -> None:
    sentences = set()
    for act in (inspect_path, released_parts, model_contents):
        with refused("weights_unsupported_storage") as caught:
            act(file)
        sentences.add(str(caught.value))
    (sentence,) = sentences
    assert f"{file} is {called}" in sentence and "get the same model in bf16" in sentence
    assert "\n" not in sentence and "fetch it again" not in sentence


@pytest.mark.parametrize("name", WAYS)
def test_the_storage_is_named_when_a_file_is_inspected_loaded_or_converted(name: str, tmp_path: Path) -> None:
    assert_refused_alike(written(tmp_path, WAYS[name], prefix="model.diffusion_model."), WAYS[name].called)


@pytest.mark.parametrize("name", ["TurboDiffusion", "int8 alone", "nf4"])
def test_pickles_are_told_too(name: str, tmp_path: Path) -> None:
    assert_refused_alike(written(tmp_path, WAYS[name], suffix=".pth"), WAYS[name].called)


def test_where_everything_is_stored_so_no_name_of_a_model_is_needed(tmp_path: Path) -> None:
    save_file({"x.weight._data": zeros(2, 2), "x.weight._scale": zeros(2, 1)}, tmp_path / "w.safetensors")
    assert_refused_alike(tmp_path / "w.safetensors", "quanto")


def test_another_family_is_called_that_and_not_only_its_storage(tmp_path: Path) -> None:
    name = "double_blocks.0.img_attn.qkv.weight"
    save_file({name: zeros(4, 1, dtype=torch.uint8), f"{name}.absmax": zeros(2)}, tmp_path / "w.safetensors")
    for act in (inspect_path, released_parts):
        with refused("weights_unsupported_model") as caught:
            act(tmp_path / "w.safetensors")
        assert "Flux" in str(caught.value)


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F8_E5M2FNUZ"])
def test_dtypes_of_safetensors_that_are_not_read_are_no_damage(dtype: str, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    header = json.dumps({"blocks.0.ffn.0.weight": {"dtype": dtype, "shape": [4, 4], "data_offsets": [0, 8]}}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    for act in (inspect_path, released_parts, model_contents):
        with refused("weights_unsupported_storage") as caught:
            act(file)
        assert dtype in str(caught.value)
