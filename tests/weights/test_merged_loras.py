"""LoRA files merged while weights are written: the sum that each formula says, on every kind of storage."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.conversion.convert import Conversion, convert
from kinoform.families.transformer_names import OFFICIAL_NAMES
from tests.support.official_folder import official_tensors
from tests.support.refusals import refused
from tests.weights.gguf_fixtures import write_gguf
from tests.weights.lora_fixtures import DIM, written
from tests.weights.test_lora_dialects import KINDS, SPELLINGS, STRENGTH, shared

Tensors = dict[str, Tensor]
CHANGED = ("blocks.0.self_attn.q.weight", "blocks.1.ffn.0.weight", "blocks.2.cross_attn.k.weight")


def plain(tensors: Tensors, path: Path) -> Path:
    save_file(tensors, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def bf16(tensors: Tensors, path: Path) -> Path:
    return plain({name: value.bfloat16() for name, value in tensors.items()}, path)


def fp8(tensors: Tensors, path: Path) -> Path:
    return plain(tensors | {name: tensors[name].to(torch.float8_e4m3fn) for name in CHANGED}, path)


def scaled(tensors: Tensors, path: Path) -> Path:
    small = {name: (tensors[name] * 4).to(torch.float8_e4m3fn) for name in CHANGED}
    scales = {f"{name.removesuffix('weight')}scale_weight": torch.tensor(0.25) for name in CHANGED}
    return plain(tensors | small | scales | {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}, path)


def gguf(tensors: Tensors, path: Path) -> Path:
    shapes = {name: tuple(tensors[name].shape) for name in (*CHANGED, "patch_embedding.weight")}
    flat = {name: value.flatten() if name in shapes else value for name, value in tensors.items()}
    return write_gguf(path.with_suffix(".gguf"), flat, dict.fromkeys(CHANGED, "Q8_0"), shapes=shapes)


STORAGES: dict[str, tuple[Callable[[Tensors, Path], Path], float]] = {
    "float32": (plain, 2e-6), "bfloat16": (bf16, 4e-3), "fp8": (fp8, 4e-3), "scaled fp8": (scaled, 2e-6),
    "gguf": (gguf, 2e-6),
}  # fmt: skip
"""Forms of stored weights, and how far a merged number may be from its formula, of the largest."""


def base_tensors() -> Tensors:
    return official_tensors(shared(), OFFICIAL_NAMES)


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_written_is_the_sum(storage: str, tmp_path: Path) -> None:
    write, within = STORAGES[storage]
    source = write(base_tensors(), tmp_path / "base")
    convert(source, tmp_path / "plain.safetensors", Conversion(to="official", dtype=torch.float32))
    before = load_file(tmp_path / "plain.safetensors")
    first, second = SPELLINGS["musubi"], KINDS["LoHa"]
    files = []
    for name, told in (("first", first), ("second", second)):
        (tmp_path / name).mkdir()
        files.append(written(tmp_path / name, told.tensors))
    heard: list[str] = []
    wanted = Conversion(to="official", loras=((files[0], STRENGTH), (files[1], -1.0), (files[1], 0.0)))
    convert(source, tmp_path / "merged.safetensors", wanted, report=heard.append)
    after = load_file(tmp_path / "merged.safetensors")
    assert len(heard) == 3 and "6 tensors applied" not in heard[1] and after.keys() == before.keys()
    for name, value in after.items():
        own = str(OFFICIAL_NAMES.ours(name))
        sums = [(told.changes[own], strength) for told, strength in ((first, STRENGTH), (second, -1.0))
                if own in told.changes]  # fmt: skip
        if not sums:
            assert torch.equal(value.float(), before[name]), name
            continue
        wide = before[name].double() + sum(strength * formula(before[name]) for formula, strength in sums)
        assert (value.double() - wide).abs().max() <= within * wide.abs().max(), name
        assert value.dtype == (torch.bfloat16 if within > 1e-3 else torch.float32)


@pytest.mark.parametrize("kind", ["LightX2V", "DoRA of kohya", "LoKr of factors", "whole differences"])
def test_kinds_are_merged_as_they_count_beside_the_weights(kind: str, tmp_path: Path) -> None:
    told = KINDS[kind]
    source = plain(base_tensors(), tmp_path / "base")
    lora = written(tmp_path, told.tensors)
    convert(source, tmp_path / "merged.safetensors", Conversion(to="official", loras=((lora, STRENGTH),)))
    after = load_file(tmp_path / "merged.safetensors")
    for own, formula in told.changes.items():
        before = shared().get_parameter(own)
        wide = before.double() + STRENGTH * formula(before)
        assert (after[OFFICIAL_NAMES.theirs(own)] - wide).abs().max() <= 2e-6 * wide.abs().max(), own


def test_nothing_else_is_merged_into(tmp_path: Path) -> None:
    source = plain({"decoder.nothing": torch.ones(DIM)}, tmp_path / "base")
    with refused("weights_unsupported_model"):
        convert(source, tmp_path / "x.safetensors", Conversion(to="comfy", loras=((tmp_path / "a", 1.0),)))


def test_a_strength_that_changes_is_not_merged(tmp_path: Path) -> None:
    source, lora = plain(base_tensors(), tmp_path / "base"), written(tmp_path, SPELLINGS["musubi"].tensors)
    with refused("options_conflict", "style.safetensors"):
        convert(source, tmp_path / "x.safetensors", Conversion(to="comfy", loras=((lora, lambda level: 1.0),)))
