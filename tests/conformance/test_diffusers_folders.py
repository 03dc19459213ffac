"""diffusers opens the whole folders that `convert` writes of models with images and videos, and saves the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kinoform.conversion.convert import Conversion, convert
from kinoform.loading.parts import released_parts
from kinoform.recipes.load import load
from tests.support.expert_folders import BOUNDARIES, KINDS, SEEDS, same_weights, tiny_expert, write_expert_folder
from tests.support.expert_folders import PIPELINES as PAIRED
from tests.support.narrowing import of_type, some
from tests.support.official_folder import TRANSFORMERS, tiny_modules, write_official_folder

WHY = "the judge, {}, is not installed: pip install 'kinoform[conformance]'"
diffusers: Any = pytest.importorskip("diffusers", reason=WHY.format("diffusers"))
pytest.importorskip("transformers", reason=WHY.format("transformers"))

CPU = torch.device("cpu")
PIPELINES = {
    "i2v": "WanImageToVideoPipeline",
    "flf2v": "WanImageToVideoPipeline",
    "vace": "WanVACEPipeline",
    "ti2v": "WanPipeline",
}
SHIFTS = {"i2v": 5.0, "flf2v": 16.0, "vace": 16.0, "ti2v": 5.0}


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_converted_folder_is_a_pipeline_there(kind: str, tmp_path: Path) -> None:
    write_official_folder(tmp_path / "official", kind=kind)
    convert(tmp_path / "official", tmp_path / "there", Conversion(to="diffusers"))
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "there")
    assert type(pipe).__name__ == PIPELINES[kind] and pipe.scheduler.config.flow_shift == SHIFTS[kind]
    assert pipe.config.get("expand_timesteps", False) is (kind == "ti2v")
    pipe.save_pretrained(tmp_path / "saved")
    parts, source = released_parts(tmp_path / "saved"), tiny_modules(transformer=TRANSFORMERS[kind])
    modules: list[tuple[nn.Module, nn.Module]] = [
        (parts.transformer(torch.float32, CPU), source.transformer),
        (of_type(nn.Module, parts.codec(CPU)), some(source.autoencoder)),
    ]
    if source.image_encoder is not None:
        modules.append((parts.image_encoder(torch.float32, CPU), source.image_encoder))
    for found, expected in modules:
        held = expected.state_dict()
        assert found.state_dict().keys() == held.keys()
        assert all(torch.equal(value, held[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_pair_is_a_pipeline_there(kind: str, tmp_path: Path) -> None:
    convert(
        write_expert_folder(tmp_path / "official", "official", kind), tmp_path / "there", Conversion(to="diffusers")
    )
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "there")
    assert type(pipe).__name__ == PAIRED[kind] and pipe.config.boundary_ratio == BOUNDARIES[kind]
    assert pipe.scheduler.config.flow_shift == (5.0 if kind == "i2v" else 12.0)
    for name in ("transformer", "transformer_2"):
        _, told = type(pipe.transformer).from_pretrained(tmp_path / "there" / name, output_loading_info=True)
        assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    pipe.save_pretrained(tmp_path / "saved")
    loaders = load(tmp_path / "saved", device="cpu").parts.transformers
    for noise, loader in zip(SEEDS, loaders, strict=True):
        assert same_weights(loader(torch.float32, CPU), tiny_expert(noise, kind))
