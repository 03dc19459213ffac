"""Relatives of Wan and what other models add to it are named for what they are, and what is said to do can be done."""

from pathlib import Path

import pytest

from kinoform.families.identify import inspect_path
from kinoform.families.relatives import notes_on_names
from kinoform.recipes.load import load
from tests.support.refusals import refused
from tests.weights.tiny_files import Shapes, linear, transformer, write_header

AUDIO = "blocks.0.audio_cross_attn"
MODULES: dict[str, tuple[Shapes, str]] = {
    "multitalk": (
        linear("audio_proj.proj1", 4, 4) | linear(f"{AUDIO}.q_linear", 4, 4) | linear("blocks.0.norm_x", 4, 4),
        "MultiTalk or InfiniteTalk",
    ),
    "humo": (linear("audio_proj.audio_proj_glob_1.layer", 4, 4), "HuMo"),
    "fantasytalking": (linear("proj_model.proj", 4, 4), "FantasyTalking"),
    "uni3c": (linear("controlnet_patch_embedding", 4, 4) | linear("controlnet_blocks.0.ffn.0", 4, 4), "Uni3C"),
    "camera": (linear("control_adapter.conv", 4, 4), "Wan-Fun"),
    "animate": (linear("face_adapter.fuser_blocks.0.k", 4, 4), "Animate"),
    "pose": (linear("dwpose_embedding.0", 4, 4), "UniAnimate"),
    "lynx": (linear("blocks.0.self_attn.ref_adapter.to_k_ref", 4, 4), "Lynx"),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_of_relatives_are_named(name: str, tmp_path: Path) -> None:
    shapes, expected = MODULES[name]
    file = write_header(tmp_path / "w.safetensors", shapes)
    for act in (lambda: load(file, device="cpu"), lambda: inspect_path(file)):
        with refused("weights_module_alone") as caught:
            act()
        assert expected in str(caught.value)


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"fantasytalking", "uni3c"}))
def test_transformers_with_such_a_module_are_named(name: str, tmp_path: Path) -> None:
    shapes, expected = MODULES[name]
    file = write_header(tmp_path / "w.safetensors", transformer() | shapes)
    with refused("weights_unsupported_model") as caught:
        load(file, device="cpu")
    assert expected.split()[0] in str(caught.value)


@pytest.mark.parametrize(
    ("name", "steps", "shift"),
    [
        ("wan2.1_t2v_14b_lora_rank64_lightx2v_4step.safetensors", 4, 5),
        ("Wan2.2-Lightning_T2V-v1.1-A14B-4steps-lora_HIGH_fp16.safetensors", 4, 5),
        ("self_forcing_dmd.pt", 4, 5),
        ("Wan21_CausVid_14B_T2V_lora_rank32.safetensors", 4, 5),
        ("models--FastVideo--FastWan2.1-T2V-1.3B-Diffusers", 3, 8),
        ("Wan2_1-T2V-14B-Phantom-FusionX.safetensors", 8, 5),
        ("TurboWan2.1-T2V-1.3B-480P.pth", 4, 5),
        ("rCM_Wan2.1_T2V_1.3B_480p.pt", 4, 5),
        ("my_8steps_merge.safetensors", 8, 5),
        ("Wan2.1-T2V-14B-StepDistill-CfgDistill", 4, 5),
    ],
)
def test_names_of_models_for_few_steps_bring_a_note_with_the_settings(name: str, steps: int, shift: int) -> None:
    told = [note for note in notes_on_names([name]) if "--steps" in note]
    assert len(told) == 1 and told[0].endswith(f"--steps {steps} --guidance-scale 1 --shift {shift}")


@pytest.mark.parametrize(
    "name",
    ["wan2.1_t2v_14B_fp16.safetensors", "Wan2.1-T2V-1.3B", "finetune_step_4000.safetensors", "epoch_12_step_4000.pt",
     "lora-20steps-a-day-5000steps.safetensors", "mediation.safetensors", "footsteps_v2.safetensors"],
)  # fmt: skip
def test_other_names_bring_none(name: str) -> None:
    assert notes_on_names([name]) == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Phantom-Wan-14B_fp16.safetensors", "Phantom"), ("Wan2.1-Fun-14B-InP", "InP"), ("SkyReels-V2-14B", "--fps 24"),
     ("Wan2_1-I2V-ATI-14B_fp8.safetensors", "ATI"), ("Wan2_1-MAGREF-I2V-14B.safetensors", "MAGREF")],
)  # fmt: skip
def test_relatives_of_the_same_structure_are_named(name: str, expected: str) -> None:
    assert any(expected in note for note in notes_on_names([name]))


def test_the_note_is_told_by_inspect_and_when_it_is_loaded(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from tests.support.comfy_files import comfy_transformer, write_comfy_folders

    file = write_comfy_folders(tmp_path / "models").with_name("wan2.1_t2v_self_forcing.safetensors")
    save_file(comfy_transformer(), file)
    told: list[str] = []
    load(file, device="cpu", report=told.append)
    (note,) = inspect_path(file)[0].notes
    assert told == [f"{file}: {note}"] and "--guidance-scale 1" in note
