"""A model whose matrices stay packed gives the very numbers of the unpacked one, in the memory of its file."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from kinoform.checkpoints.files import Checkpoint, open_file
from kinoform.checkpoints.formats import PackedStored
from kinoform.checkpoints.fp8 import plain
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.loading.load import load_module
from kinoform.models.context import TextContext
from kinoform.models.dit import DiT, DiTSpec, keeps_float32
from kinoform.models.linear import Linear
from kinoform.models.lora import LoRASpec, attach
from kinoform.models.packed import PackedLinear
from kinoform.training.base import base_hash
from kinoform.types import Conditions, Grid
from tests.support.official_folder import official_tensors
from tests.support.refusals import refused
from tests.weights.gguf_fixtures import write_gguf

CPU = torch.device("cpu")
SPEC = DiTSpec(dim=64, ffn_dim=96, heads=2, layers=2, context=(TextContext(width=32, length=4),))
WIDTHS = {"Q8_0": 34 / 32, "Q4_0": 18 / 32, "Q5_1": 24 / 32}
"""Bytes a weight."""


def official() -> dict[str, Tensor]:
    """Random weights, none of which leaves an output at zero."""
    generator = torch.Generator().manual_seed(0)
    model = SPEC.build()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
    return official_tensors(model, DIT)


def is_block_matrix(name: str) -> bool:
    return name.startswith("blocks.") and name.endswith(".weight") and "norm" not in name


def quantised(folder: Path, quantisation: str) -> Checkpoint:
    """A GGUF file in which every matrix is quantised, also those that the model keeps in float32."""
    tensors = official()
    matrices = {name for name, value in tensors.items() if value.dim() == 2 and name.endswith("weight")}
    path = write_gguf(folder / "w.gguf", tensors, dict.fromkeys(matrices, quantisation))
    return open_file(path)


def fp8(folder: Path, *, scaled: bool) -> Checkpoint:
    tensors = {}
    for name, value in official().items():
        if not is_block_matrix(name):
            tensors[name] = value
        elif scaled:
            scale = value.abs().amax(dim=1, keepdim=True) / 448
            tensors[name] = (value / scale).to(torch.float8_e4m3fn)
            tensors[f"{name.removesuffix('.weight')}.weight_scale"] = scale
        else:
            tensors[name] = value.to(torch.float8_e5m2)
    save_file(tensors, folder / "w.safetensors")
    path = folder / "w.safetensors"
    return plain(open_file(path))


FILES: dict[str, Callable[[Path], Checkpoint]] = {
    **{name: lambda folder, name=name: quantised(folder, name) for name in WIDTHS},
    "fp8 scaled": lambda folder: fp8(folder, scaled=True),
    "fp8 cast": lambda folder: fp8(folder, scaled=False),
}


def both(checkpoint: Checkpoint, dtype: torch.dtype) -> tuple[DiT, DiT]:
    def dtype_of(name: str) -> torch.dtype:
        return torch.float32 if keeps_float32(name) else dtype

    unpacked = load_module(SPEC.build, checkpoint, names=DIT, dtype_of=dtype_of, device=CPU)
    return unpacked, load_module(SPEC.build, checkpoint, names=DIT, dtype_of=dtype_of, device=CPU, keep_packed=True)


def velocity(model: DiT) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(1, 3, 32, generator=generator)
    x = torch.randn(1, 16, 2, 4, 4, generator=generator)
    prepared = model.prepare(Conditions(context={"text": text}), Grid(frames=2, height=2, width=2))
    with torch.no_grad():
        return model(x, torch.tensor([500.0]), prepared)


def packed_layers(model: nn.Module) -> dict[str, PackedLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, PackedLinear)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("file", FILES)
def test_the_velocity_is_that_of_the_unpacked_model_bit_for_bit(file: str, dtype: torch.dtype, tmp_path: Path) -> None:
    unpacked, packed = both(FILES[file](tmp_path), dtype)
    assert base_hash(packed) == base_hash(unpacked), "a training goes on with either"
    expected = velocity(unpacked)
    assert expected.isfinite().all() and expected.std() > 0.01
    assert torch.equal(velocity(packed), expected)
    for name, layer in packed_layers(packed).items():
        plain_layer = unpacked.get_submodule(name)
        assert isinstance(plain_layer, Linear)
        assert layer.weight.dtype == dtype and torch.equal(layer.weight, plain_layer.weight)
        assert layer.weight.device == layer.rows.device == CPU
        assert (layer.in_features, layer.out_features) == (plain_layer.in_features, plain_layer.out_features)


@pytest.mark.parametrize("file", FILES)
def test_what_is_kept_in_float32_or_is_no_matrix_is_plain(file: str, tmp_path: Path) -> None:
    _, packed = both(FILES[file](tmp_path), torch.bfloat16)
    names = packed_layers(packed).keys()
    blocks = {name for name, module in packed.blocks.named_modules() if isinstance(module, Linear)}
    assert {f"blocks.{name}" for name in blocks} <= names and len(blocks) == 2 * 10
    assert all(name.startswith(("blocks.", "context.text.")) for name in names)
    assert packed.patch_embedding.weight.dtype == torch.bfloat16 and packed.head.linear.weight.dtype == torch.float32
    assert not packed.training and not any(parameter.requires_grad for parameter in packed.parameters())


@pytest.mark.parametrize("quantisation", WIDTHS)
def test_a_packed_layer_holds_the_bytes_of_the_file_and_no_more(quantisation: str, tmp_path: Path) -> None:
    checkpoint = quantised(tmp_path, quantisation)
    unpacked, packed = both(checkpoint, torch.bfloat16)
    layers = packed_layers(packed)
    for name, layer in layers.items():
        stored = checkpoint.tensors[DIT.theirs(f"{name}.weight")]
        assert isinstance(stored, PackedStored) and torch.equal(layer.rows, stored.rows())
        assert layer.rows.untyped_storage().nbytes() == WIDTHS[quantisation] * stored.shape[0] * stored.shape[1]

    def held(module: nn.Module) -> int:
        return sum(value.untyped_storage().nbytes() for value in (*module.parameters(), *module.buffers()))

    weights = sum(layer.in_features * layer.out_features for layer in layers.values())
    assert held(unpacked) - held(packed) == weights * (2 - WIDTHS[quantisation])


def test_fp8_rows_take_their_scales_along(tmp_path: Path) -> None:
    for scaled, extra in ((True, 4), (False, 0)):
        _, packed = both(fp8(tmp_path, scaled=scaled), torch.bfloat16)
        for layer in packed_layers(packed).values():
            assert layer.rows.shape == (layer.out_features, layer.in_features + extra)


def test_a_cast_of_the_module_leaves_what_is_packed(tmp_path: Path) -> None:
    _, packed = both(fp8(tmp_path, scaled=True), torch.bfloat16)
    layer = packed_layers(packed)["blocks.0.self_attention.q"]
    before = layer.weight
    packed.to(torch.float16).to(torch.float32)
    assert layer.rows.dtype == torch.uint8 and torch.equal(layer.weight, before)


def test_a_packed_load_is_as_strict_as_a_plain_one(tmp_path: Path) -> None:
    checkpoint = quantised(tmp_path, "Q8_0")
    lacking, surplus = dict(checkpoint.tensors), dict(checkpoint.tensors)
    name = "blocks.1.ffn.0.weight"
    surplus["blocks.9.ffn.0.weight"] = lacking.pop(name)
    for tensors, code, named in ((lacking, "weights_incomplete", name), (surplus, "weights_unknown_keys", "blocks.9")):
        with refused(code, named):
            both(replace(checkpoint, tensors=tensors), torch.bfloat16)
        with refused(code, named):
            load_module(
                SPEC.build,
                replace(checkpoint, tensors=tensors),
                names=DIT,
                dtype_of=lambda name: torch.bfloat16,
                device=CPU,
                keep_packed=True,
            )


@pytest.mark.parametrize(
    ("scale", "dtype", "code"),
    [("nan", torch.bfloat16, "weights_not_finite"), ("6e4", torch.float16, "weights_overflow_dtype")],
)
def test_damaged_blocks_are_found_when_they_are_loaded(
    scale: str, dtype: torch.dtype, code: str, tmp_path: Path
) -> None:
    checkpoint = quantised(tmp_path, "Q8_0")
    name = "blocks.1.ffn.0.weight"
    stored = checkpoint.tensors[name]
    assert isinstance(stored, PackedStored)
    rows = stored.rows()
    rows[5, :2] = torch.tensor([float(scale)], dtype=torch.float16).view(torch.uint8)
    tensors = {**checkpoint.tensors, name: replace(stored, rows=lambda: rows)}
    with refused(code, "w.gguf", name):
        load_module(
            SPEC.build,
            replace(checkpoint, tensors=tensors),
            names=DIT,
            dtype_of=lambda own: dtype,
            device=CPU,
            keep_packed=True,
        )


def adapted(model: DiT) -> DiT:
    """With a LoRA that has an effect."""
    result = attach(model, LoRASpec(rank=2), generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(3)
    for name, parameter in result.named_parameters():
        parameter.requires_grad_(".adapters." in name)
        if name.endswith(".up"):
            parameter.data = torch.randn(parameter.shape, generator=generator) / 8
    return result


def gradients(model: DiT) -> tuple[list[Tensor], dict[tuple[int, ...], int]]:
    """Gradients of a LoRA, and how many tensors of which shape are kept for them that are no weight of the model."""
    generator, kept = torch.Generator().manual_seed(1), Counter[tuple[int, ...]]()
    text, x = torch.randn(1, 3, 32, generator=generator), torch.randn(1, 16, 2, 4, 4, generator=generator)
    held = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in held:
            kept[tuple(sorted(tensor.shape))] += 1
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        prepared = model.prepare(Conditions(context={"text": text}), Grid(frames=2, height=2, width=2))
        loss = model(x, torch.tensor([500.0]), prepared).square().mean()
    loss.backward()
    return [item.grad for item in model.parameters() if item.grad is not None], dict(kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("file", ["Q8_0", "fp8 scaled"])
def test_a_lora_on_it_has_the_same_gradients_and_keeps_no_unpacked_weight(
    file: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    (expected, _), (found, kept) = (gradients(adapted(model)) for model in both(FILES[file](tmp_path), dtype))
    assert len(expected) == len(found) == 2 * 2 * 10
    assert all(torch.equal(own, other) and own.any() for own, other in zip(found, expected, strict=True))
    assert kept and not {(64, 64), (64, 96), (32, 64)} & kept.keys()
