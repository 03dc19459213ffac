"""Names of files and folders are held against their structure, and half a model never runs as a whole one."""

import json
from pathlib import Path
from typing import Any

import pytest

from kinoform.families.identify import inspect_path
from kinoform.loading.parts import released_parts
from kinoform.loading.sources import Overrides
from kinoform.recipes.load import load
from tests.support.diffusers_folder import INDEX, write_diffusers_folder
from tests.support.official_folder import write_official_folder
from tests.support.refusals import refused
from tests.weights.gguf_fixtures import write_gguf
from tests.weights.tiny_files import TO_DIFFUSERS, renamed, transformer, write_header

SMALL: dict[str, Any] = {"dim": 1536, "ffn": 64, "layers": 30}
BIG: dict[str, Any] = {"dim": 5120, "ffn": 64, "layers": 40}
WIDE = {"dim": 3072, "ffn": 64, "layers": 30}

CONTRADICTED = [
    ("wan21-vace", SMALL, "wan2.2_vace.safetensors"),
    ("wan21-t2v", SMALL, "wan2.2_ti2v.safetensors"),
    ("wan21-t2v", SMALL, "Wan2_2-TI2V-5B_fp16.safetensors"),
    ("wan21-t2v", SMALL, "my-low-noise-finetune.safetensors"),
    ("wan21-t2v", SMALL, "wan2.1_t2v_14B.safetensors"),
    ("wan21-t2v", BIG, "wan2.1_i2v_720p_14B.safetensors"),
    ("wan21-i2v", BIG, "wan2.2_i2v_high_noise_14B.safetensors"),
    ("wan21-flf2v", BIG, "wan22-flf2v-low-noise-14b.safetensors"),
    ("wan21-t2v", SMALL, "Wan2.2-Experiments/model.safetensors"),
    ("wan21-t2v", SMALL, "Wan2.2-X/high_noise_model/diffusion_pytorch_model.safetensors"),
]
SETTLED = [
    ("wan21-vace", BIG | {"side_layers": 8}, "Wan2.2-VACE-Fun-A14B_high_noise.safetensors"),
    ("wan21-vace", BIG | {"side_layers": 8}, "Wan2_2_Fun_VACE_module_A14B_LOW_bf16.safetensors"),
    ("wan21-t2v", BIG, "Wan2_2-T2V-A14B_HIGH.safetensors"),
    ("wan21-t2v", BIG, "Wan2_2-T2V-A14B-LOW_fp8_e4m3fn.safetensors"),
    ("wan21-t2v", BIG, "wan-t2v-low-noise-14b.safetensors"),
    ("wan21-t2v", BIG, "Wan2.2-T2V-A14B/low_noise_model/diffusion_pytorch_model.safetensors"),
    ("wan21-t2v", BIG, "models--Wan-AI--Wan2.2-T2V-A14B/snapshots/" + "a1" * 20 + "/high_noise_model/w.safetensors"),
    ("wan22-i2v", BIG, "w.safetensors"),
    ("wan21-t2v", {"dim": 1280, "ffn": 64, "layers": 2}, "wan2.2_t2v_high_noise_pruned.safetensors"),
]
INNOCENT = [
    ("wan22-ti2v", WIDE, "w.safetensors"),
    ("wan22-ti2v", WIDE, "Wan2_2-TI2V-5B_fp16.safetensors"),
    ("wan21-t2v", SMALL, "my_high_quality_model.safetensors"),
    ("wan21-t2v", SMALL, "low_vram_wan2.1_t2v_1.3B_720p.safetensors"),
    ("wan21-t2v", SMALL, "wan2.1/i2v-app/checkpoint-1400b.safetensors"),
    ("wan21-t2v", SMALL, "my-i2v-app/t2v_model_v2.2.safetensors"),
    ("wan21-t2v", BIG, "Wan2.2/wan2.1_t2v_14B_fp16.safetensors"),
    ("wan21-t2v", BIG, "high_noise/wan2.1_t2v_14B_fp16.safetensors"),
    ("wan21-vace", BIG | {"side_layers": 8}, "wan2.1_t2v_14B_with_vace.safetensors"),
    ("wan21-vace", SMALL, "vace_1.3b_and_14b_notes.safetensors"),
    ("wan21-flf2v", BIG, "wan2.1_flf2v_720p_14B_fp16.safetensors"),
    ("wan21-i2v", BIG, "wan2.1_i2v_480p_14B_fp8.safetensors"),
]


def tiny_or_real(tmp_path: Path, family: str, sizes: dict[str, int], name: str) -> Path:
    """Headers of a transformer under the name, in a folder whose own name says nothing."""
    return write_header(tmp_path / "w" / name, transformer(family, **sizes))


@pytest.mark.parametrize(("family", "sizes", "name"), CONTRADICTED)
def test_a_name_that_none_of_the_models_has_makes_it_ask(
    family: str, sizes: dict[str, int], name: str, tmp_path: Path
) -> None:
    file = tiny_or_real(tmp_path, family, sizes, name)
    with refused("name_contradicts_weights") as caught:
        load(file, device="cpu")
    (told,) = inspect_path(file)
    assert told.chosen is None and told.doubt
    advised = str(caught.value).rpartition("--variant ")[2]
    with refused("part_missing"):  # what was advised leads on to what is missing beside the file
        load(file, variant=advised, device="cpu")
    with refused("part_missing"):
        load(file, recipe="kinoform.recipes.wan21:t2v_14b", device="cpu")


@pytest.mark.parametrize(("family", "sizes", "name"), SETTLED)
def test_an_expert_is_refused_before_anything_else_is_asked_for(
    family: str, sizes: dict[str, int], name: str, tmp_path: Path
) -> None:
    file = tiny_or_real(tmp_path, family, sizes, name)
    with refused("expert_alone"):
        load(file, device="cpu")
    (told,) = inspect_path(file)
    assert all("a14b" in item for item in ([told.chosen] if told.chosen else told.candidates))


@pytest.mark.parametrize(("family", "sizes", "name"), INNOCENT)
def test_innocent_names_are_not_held_against_a_model(
    family: str, sizes: dict[str, int], name: str, tmp_path: Path
) -> None:
    file = tiny_or_real(tmp_path, family, sizes, name)
    with refused("part_missing"):
        load(file, device="cpu")
    assert not inspect_path(file)[0].doubt


def test_metadata_and_settings_are_heard_too(tmp_path: Path) -> None:
    plain = tmp_path / "w" / "a.safetensors"
    write_header(plain, transformer(**SMALL), metadata={"modelspec.title": "Wan 2.2 T2V high noise"})
    with refused("name_contradicts_weights"):
        load(plain, device="cpu")
    pytest.importorskip("gguf")
    import torch

    tensors = {name: torch.zeros(shape) for name, shape in transformer().items()}
    packed = write_gguf(tmp_path / "w" / "b.gguf", tensors, {}, values={"general.name": "Wan2.2 T2V A14B LowNoise"})
    with refused("expert_alone"):
        load(packed, device="cpu")
    folder = tmp_path / "w" / "transformer"
    write_header(folder / "diffusion_pytorch_model.safetensors", renamed(transformer(**SMALL), TO_DIFFUSERS))
    (folder / "config.json").write_text(json.dumps({"_name_or_path": "Wan-AI/Wan2.2-T2V-A14B-Diffusers"}))
    with refused("name_contradicts_weights"):
        load(folder / "diffusion_pytorch_model.safetensors", device="cpu")


@pytest.mark.parametrize(
    "change", [{"boundary_ratio": 0.875}, {"transformer_2": ["diffusers", "WanTransformer3DModel"]}, "transformer_2"]
)
def test_half_a_diffusers_folder_is_refused_by_what_is_left_of_it(change: object, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_diffusers_folder(folder)
    if isinstance(change, dict):
        (folder / "model_index.json").write_text(json.dumps(INDEX | change))
    else:
        (folder / str(change)).mkdir()
    with refused("expert_alone" if isinstance(change, dict) else "weights_missing", "transformer_2"):
        released_parts(folder)
    with refused("expert_alone" if isinstance(change, dict) else "variant_contradicts_weights"):
        released_parts(folder, variant="t2v-14b")
    with refused("expert_alone"):  # its file alone is still one of two
        released_parts(folder / "transformer" / "diffusion_pytorch_model.safetensors")


def test_an_index_that_has_no_second_expert_says_so_in_three_ways(tmp_path: Path) -> None:
    write_diffusers_folder(tmp_path / "model")
    told = {"boundary_ratio": None, "transformer_2": [None, None], "expand_timesteps": False}
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(INDEX | told))
    assert released_parts(tmp_path / "model").model == "t2v-1.3b"


@pytest.mark.parametrize("expert", ["high_noise_model", "low_noise_model"])
def test_half_an_official_folder_is_refused(expert: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_official_folder(folder)
    (folder / expert).mkdir()
    with refused("expert_alone"):
        released_parts(folder)


def test_an_expert_s_folder_alone_is_refused_or_asks(tmp_path: Path) -> None:
    write_official_folder(tmp_path / "wan")
    alone = tmp_path / "wan" / "low_noise_model"
    given = Overrides(
        text_encoder=tmp_path / "wan" / "models_t5_umt5-xxl-enc-bf16.pth",
        codec=tmp_path / "wan" / "Wan2.1_VAE.pth",
        tokenizer=tmp_path / "wan" / "google" / "umt5-xxl",
    )
    config = {"_class_name": "WanModel", "model_type": "t2v"}
    for folder, code in ((alone, "expert_alone"), (tmp_path / "w", "weights_ambiguous")):
        write_header(folder / "diffusion_pytorch_model.safetensors", transformer(**BIG))
        (folder / "config.json").write_text(json.dumps(config))
        with refused(code):
            released_parts(folder, given)
