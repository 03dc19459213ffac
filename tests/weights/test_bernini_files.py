"""Bernini-R on disk: settings, names and folders tell it from text-to-video weights, which have the same tensors."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kinoform.families.folders import needed
from kinoform.families.identify import inspect_path
from kinoform.families.transformer_names import DIFFUSERS_NAMES
from kinoform.models.segments import SegmentRotation
from kinoform.recipes.load import load
from tests.support.comfy_files import SINGLE
from tests.support.diffusers_folder import write_diffusers_folder
from tests.support.expert_folders import same_weights, tiny_expert, write_expert_folder
from tests.support.official_folder import official_tensors
from tests.support.refusals import refused

CPU = torch.device("cpu")


def marked(folder: Path, kind: str = "bernini_renderer") -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    return folder


def test_the_settings_at_its_root_tell_a_folder_from_text_to_video(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_diffusers_folder(folder)
    plain = load(folder, device="cpu")
    assert plain.recipe.name == "t2v-1.3b" and plain.parts.transformer_spec.segments is None
    made = load(marked(folder), device="cpu")
    assert made.recipe.name == "bernini-1.3b" and made.parts.transformer_spec.segments == SegmentRotation()
    assert made.parts.transformer(torch.float32, CPU).spec.segments == SegmentRotation()
    assert made.parts.fingerprint() != plain.parts.fingerprint()
    (folder / "model_index.json").unlink()
    assert load(folder, device="cpu").recipe.name == "bernini-1.3b"
    said = load(folder, device="cpu", variant="t2v-1.3b")
    assert said.recipe.name == "t2v-1.3b" and said.parts.transformer_spec.segments is None


def test_two_experts_are_told_as_one_transformer_is(tmp_path: Path) -> None:
    made = load(marked(write_expert_folder(tmp_path / "model", "diffusers")), device="cpu")
    assert (made.recipe.name, made.recipe.boundaries) == ("bernini-a14b", (0.875,))
    for noise, loaded in zip(("high", "low"), made.parts.transformers, strict=True):
        assert same_weights(loaded(torch.float32, CPU), tiny_expert(noise))


def test_averages_win_in_folders_of_weights_alone_and_the_other_parts_stand_beside(tmp_path: Path) -> None:
    folder = tmp_path / "Bernini-R"
    write_diffusers_folder(folder)
    (folder / "model_index.json").unlink()
    for file in (folder / "transformer").iterdir():
        file.unlink()
    (folder / "transformer").rmdir()
    for noise in ("high", "low"):
        (home := folder / f"bernini_renderer_{noise}").mkdir()
        prefix = f"diff_dec.transformer{'' if noise == 'high' else '_2'}."
        average = official_tensors(tiny_expert(noise, "t2v", SINGLE), DIFFUSERS_NAMES)
        last = {name: torch.zeros_like(value) for name, value in average.items()}
        tensors = {f"ema.{prefix}{name}": value for name, value in average.items()}
        save_file(tensors | {prefix + name: value for name, value in last.items()}, home / "model.safetensors")
    made = load(folder, device="cpu", variant="bernini-a14b")
    assert made.recipe.name == "bernini-a14b"
    for noise, loaded in zip(("high", "low"), made.parts.transformers, strict=True):
        assert same_weights(loaded(torch.float32, CPU), tiny_expert(noise, "t2v", SINGLE))
    (found,) = inspect_path(folder / "bernini_renderer_low")
    assert found.prefix == "ema.diff_dec.transformer_2." and found.unknown == ()
    (folder / "bernini_renderer_low" / "model.safetensors").unlink()
    (folder / "bernini_renderer_low").rmdir()
    with refused("expert_alone", "bernini_renderer_low"):
        load(folder, device="cpu")


def test_bernini_with_its_planner_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_diffusers_folder(folder)
    with refused("weights_unsupported_model", "planner"):
        load(marked(folder, "bernini"), device="cpu")


@pytest.mark.parametrize("index", [True, False])
def test_the_settings_are_fetched_with_the_weights(index: bool) -> None:
    weights = {f"{part}/model.safetensors" for part in ("transformer", "text_encoder", "vae")}
    held = (
        weights | {"config.json", "tokenizer/tokenizer.json", "README.md"} | ({"model_index.json"} if index else set())
    )
    assert needed("ByteDance/Bernini-R-1.3B-Diffusers", held) == held - {"README.md"}
