"""Models of two experts go to every layout and back, bit for bit; half a model, and two of one, are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from kinoform.conversion.convert import Conversion, convert
from kinoform.families import released_models
from kinoform.loading.own import open_own
from kinoform.recipes.catalogue import RELEASED
from kinoform.recipes.load import load
from tests.support.expert_folders import BOUNDARIES, KINDS, SEEDS, same_weights, tiny_expert, write_expert_folder
from tests.support.refusals import refused
from tests.weights.test_convert import assert_same, contents

SHIFTS = {"t2v": 12.0, "i2v": 5.0, "vace": 12.0}


def wanted(to: str) -> Conversion:
    return Conversion(to=to, recipe="tests.support.tiny_recipe:tiny" if to == "kinoform" else None)


@pytest.mark.parametrize("to", ["diffusers", "comfy", "kinoform"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_experts_go_there_and_back(kind: str, to: str, tmp_path: Path) -> None:
    source = write_expert_folder(tmp_path / "comfy", "comfy", kind).parent
    convert(source, tmp_path / "official", wanted("official"))
    convert(tmp_path / "official", tmp_path / "there", wanted(to))
    convert(tmp_path / "there", tmp_path / "back", wanted("official"))
    found = contents(tmp_path / "back")
    found.pop("google/umt5-xxl/tokenizer_config.json", None)  # written for transformers, and kept
    assert_same(found, contents(tmp_path / "official"))


@pytest.mark.parametrize("to", ["official", "diffusers", "comfy"])
def test_what_is_written_loads_as_the_two_experts(to: str, tmp_path: Path) -> None:
    layout = {"official": "diffusers", "diffusers": "official", "comfy": "comfy"}[to]
    source = write_expert_folder(tmp_path / "source", layout)
    convert(source.parent if to == "comfy" else source, tmp_path / "there", wanted(to))
    place = tmp_path / "there" / ("diffusion_models" if to == "comfy" else "")
    pipeline = load(place, device="cpu")
    given = load(source, device="cpu")
    assert pipeline.recipe.name == "t2v-a14b"
    for found, expected in zip(pipeline.parts.transformers, given.parts.transformers, strict=True):
        assert same_weights(found(torch.float32, torch.device("cpu")), expected(torch.float32, torch.device("cpu")))
    if to == "comfy":
        names = [file.name for file in sorted(place.iterdir())]
        assert names == ["wan2.2_t2v_high_noise_fp32.safetensors", "wan2.2_t2v_low_noise_fp32.safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_settings_for_diffusers_are_those_of_the_recipe(kind: str, tmp_path: Path) -> None:
    convert(write_expert_folder(tmp_path / "official", "official", kind), tmp_path / "there", wanted("diffusers"))
    index = json.loads((tmp_path / "there" / "model_index.json").read_text())
    scheduler = json.loads((tmp_path / "there" / "scheduler" / "scheduler_config.json").read_text())
    assert index["boundary_ratio"] == BOUNDARIES[kind] and index["transformer_2"] == index["transformer"]
    assert scheduler["flow_shift"] == SHIFTS[kind]


def test_boundaries_are_those_of_the_recipes() -> None:
    experts = [model for model in released_models() if model.noise]
    assert experts and all(RELEASED[model.model]().boundaries == (model.boundary,) for model in experts)


def test_kinoform_keeps_the_expert_for_low_noise_second(tmp_path: Path) -> None:
    convert(write_expert_folder(tmp_path / "official", "official"), tmp_path / "own", wanted("kinoform"))
    convert(tmp_path / "own", tmp_path / "again", wanted("kinoform"))
    for folder in ("own", "again"):
        files = open_own(tmp_path / folder).transformers
        for noise, file in zip(SEEDS, files, strict=True):
            held = {name: stored.read() for name, stored in file.checkpoint().tensors.items()}
            expected = tiny_expert(noise).state_dict()
            assert held.keys() == expected.keys()
            assert all(torch.equal(value, expected[name]) for name, value in held.items())


def test_half_a_model_and_two_of_one_expert_are_refused(tmp_path: Path) -> None:
    official = write_expert_folder(tmp_path / "official", "official")
    comfy = write_expert_folder(tmp_path / "comfy", "comfy", "i2v")
    high, low = sorted(comfy.iterdir())
    shutil.rmtree(official / "low_noise_model")
    with refused("expert_alone", "low_noise_model"):
        convert(official, tmp_path / "out", wanted("diffusers"))
    low.rename(high.with_name("wan2.2_i2v_high_noise_other.safetensors"))
    with refused("weights_ambiguous", "high"):
        convert(comfy.parent, tmp_path / "out", wanted("diffusers"))
    high.unlink()
    with refused("expert_alone", "low"):
        convert(comfy.parent, tmp_path / "out", wanted("diffusers"))
