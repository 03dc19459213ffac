"""LoRA files of every dialect are written in each format that others read, and are the same changes afterwards."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kinoform.conversion.convert import convert_lora
from kinoform.families.lora import DOWN, LORA_FORMATS, UP
from kinoform.families.lora_names import LoRANames, undotted, wan_names
from kinoform.families.transformer_names import DIFFUSERS_NAMES, OFFICIAL_NAMES
from kinoform.loading.lora import attach_file, parameter_shapes
from kinoform.models.dit import DiTSpec
from kinoform.models.meta import on_meta
from tests.support.official_folder import TRANSFORMERS
from tests.support.refusals import refused
from tests.weights.lora_fixtures import DIM, opened, pair, written
from tests.weights.test_lora_dialects import KINDS, SPELLINGS, STRENGTH, Told, check, shared

FILES = {**SPELLINGS, **KINDS}
BY_FORMAT = {dialect.name: dialect for dialect in LORA_FORMATS}

pytestmark = pytest.mark.filterwarnings("ignore:.*of their size")


def changed(told: Told, folder: Path, form: str) -> Mapping[str, Tensor]:
    """Write the file in this format, judge its changes by their formulas, and return its tensors."""
    path = folder / f"{form}.safetensors"
    convert_lora(written(folder, told.tensors), path, form, force=True)
    file = opened(path)
    assert file.applied == len(load_file(path)) and not file.absent and not file.unknown
    check(attach_file(shared(), file, STRENGTH), told.changes, STRENGTH)
    return load_file(path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_the_same_changes_in_every_format(name: str, tmp_path: Path) -> None:
    told = FILES[name]
    if name == "whole parameters":
        with refused("lora_not_in_format", "set_bias"):
            convert_lora(written(tmp_path, told.tensors), tmp_path / "comfy.safetensors", "comfy")
        return
    for form in ("comfy", "kohya"):
        changed(told, tmp_path, form)
    if name in (*SPELLINGS, "convolution"):
        tensors = changed(told, tmp_path, "diffusers")
        assert all(key.startswith("transformer.") for key in tensors)
    else:
        with refused("lora_not_in_format", "diffusers"):
            convert_lora(written(tmp_path, told.tensors), tmp_path / "none.safetensors", "diffusers")


def comfy_keys(spec: DiTSpec) -> dict[str, str]:
    """The names under which ComfyUI looks for a LoRA of each weight: comfy/lora.py, model_lora_keys_unet."""
    weights = [name for name in parameter_shapes(on_meta(spec.build)) if name.endswith(".weight")]
    keys = {f"diffusion_model.{OFFICIAL_NAMES.theirs(name)}".removesuffix(".weight"): name for name in weights}
    undotted_keys = {f"lora_unet_{undotted(key.removeprefix('diffusion_model.'))}": name for key, name in keys.items()}
    return keys | undotted_keys


@pytest.mark.parametrize("kind", TRANSFORMERS)
@pytest.mark.parametrize("form", ["comfy", "kohya"])
def test_comfyui_knows_every_key_that_is_written(kind: str, form: str) -> None:
    """ComfyUI knows `lora_A` and `lora_B`, `lora_down` and `lora_up`, each with .weight, behind these keys."""
    dialect, spec = BY_FORMAT[form], TRANSFORMERS[kind]
    keys = comfy_keys(spec)
    for name in parameter_shapes(on_meta(spec.build)):
        if name.endswith(".weight"):
            for role, ends in (
                (DOWN, (".lora_A.weight", ".lora_down.weight")),
                (UP, (".lora_B.weight", ".lora_up.weight")),
            ):
                written_name = dialect.written(name, role)
                end = next(end for end in ends if written_name.endswith(end))
                assert keys[written_name.removesuffix(end)] == name


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_the_table_knows_every_parameter_in_all_spellings_and_takes_none_for_another(kind: str) -> None:
    parameters = parameter_shapes(on_meta(TRANSFORMERS[kind].build))
    general = wan_names(TRANSFORMERS[kind].layers)
    assert parameters.keys() <= general.own
    for names in (LoRANames(own=frozenset(parameters)), general):
        for own in parameters:
            for spelled in (OFFICIAL_NAMES.theirs(own), DIFFUSERS_NAMES.theirs(own), own):
                for module in (spelled, undotted(spelled), f"lora_unet_{undotted(spelled)}", f"transformer.{spelled}"):
                    assert names.parameter(module, ("",)) == own


def test_diffusers_names_are_those_that_were_read(tmp_path: Path) -> None:
    source = SPELLINGS["finetrainers"].tensors
    convert_lora(written(tmp_path, source), tmp_path / "a.safetensors", "diffusers")
    result = load_file(tmp_path / "a.safetensors")
    assert result.keys() == source.keys() and all(torch.equal(result[name], source[name]) for name in source)


STRANGE = ("diffusion_model.strange.lora_A.weight", "lora_te_text_model.lora_down.weight",
           "transformer_2.blocks.0.attn1.to_q.lora_A.weight")  # fmt: skip


@pytest.mark.parametrize("other", STRANGE)
def test_what_would_be_lost_is_refused(other: str, tmp_path: Path) -> None:
    with refused("lora_unknown_keys", other[:30]):
        convert_lora(written(tmp_path, pair() | {other: torch.ones(2, DIM)}), tmp_path / "a.safetensors", "comfy")
