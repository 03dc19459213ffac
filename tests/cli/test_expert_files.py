"""Two experts are given to every command as high=FILE and low=FILE, and said by inspect, verify and download."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinoform.cli.model_files import folded, model_of
from kinoform.cli.options import model_names
from kinoform.doctor.machine import fetched
from kinoform.media.metadata import read_params
from kinoform.recipes.load import load
from tests.support.command_line import Run
from tests.support.expert_folders import comfy_files, write_expert_folder
from tests.support.narrowing import of_type
from tests.support.official_folder import write_official_folder
from tests.support.refusals import refused

SMALL = ["--size", "32x16", "--frames", "5", "--steps", "2", "--seed", "7", "--device", "cpu"]
PROMPT = "a red cat runs slowly"
FOLDERS = {"official": ("high_noise_model", "low_noise_model"), "diffusers": ("transformer", "transformer_2")}


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return comfy_files(write_expert_folder(tmp_path_factory.mktemp("experts") / "model", "comfy"))


def pair(files: dict[str, Path]) -> list[str]:
    return [word for noise, file in files.items() for word in ("--model", f"{noise}={file}")]


def test_options_of_experts_become_one_and_all_others_stay() -> None:
    one = ["a", "--model", "high=x,low=y,z", "--seed", "1"]
    assert folded(["a", "--model", "high=x", "--seed", "1", "--model=low=y,z"]) == one
    assert folded(one) == one and model_of(one[2]) == {"high": "x", "low": "y,z"}
    for words in (
        ["--model"],
        ["--", "--model", "high=x", "--model", "low=y"],
    ):
        assert folded(words) == words
    assert model_of("mini:vace") == "mini:vace" and model_of("C:\\a=b") == "C:\\a=b"
    with refused("said_twice", "low"):
        model_of("low=a,low=b")
    for words in (["--model", "mini", "--model", "high=x"], ["--model=high=x", "--model=low=y", "--model=mini"]):
        with refused("options_conflict", "mini"):
            folded(words)


def test_two_files_make_a_video_that_says_what_made_it(kinoform: Run, experts: dict[str, Path], here: Path) -> None:
    assert kinoform("generate", PROMPT, *pair(experts), *SMALL, "-o", "a.mkv").code == 0
    params = read_params(here / "a.mkv")
    assert of_type(dict, params["model"])["name"] == "t2v-a14b" and params["shift"] == 12.0
    (here / "kinoform.toml").write_text(f"model = {json.dumps(str(experts['high'].parent))}\n")
    again = kinoform("rerun", "a.mkv", *pair(dict(reversed(experts.items()))), "-o", "b.mkv")
    assert again.code == 0 and read_params(here / "b.mkv")["model"] == params["model"]
    plan = kinoform("plan", *pair(experts), *SMALL, "--json")
    assert plan.code == 0 and plan.told[0]["model"].count("noise_tiny") == 2


@pytest.mark.parametrize("noise", ["high", "low"])
def test_what_is_missing_is_named_and_how_to_give_it(kinoform: Run, experts: dict[str, Path], noise: str) -> None:
    other = {"high": "low", "low": "high"}[noise]
    for words in (["generate", PROMPT, "--model"], ["plan", "--model"], ["evaluate"]):
        ran = kinoform(*words, f"{noise}={experts[noise]}")
        assert ran.refusal == "expert_missing" and f"{other} noise" in ran.sentence and "--model" in ran.sentence
    ran = kinoform("plan", "--model", f"{noise}={experts[noise]}", "--model", f"{other}={experts[noise]}")
    assert ran.refusal == "experts_same_file"
    ran = kinoform(
        "generate", PROMPT, "--model", f"{noise}=nothing.safetensors", "--model", f"{other}={experts[other]}"
    )
    assert "nothing.safetensors" in ran.sentence


def test_the_name_of_a_whole_model_is_no_expert(kinoform: Run) -> None:
    ran = kinoform("plan", "--model", "high=t2v-a14b", "--model", "low=t2v-a14b")
    assert ran.refusal == "expert_is_model" and "t2v-a14b" in ran.sentence


def test_a_copy_of_an_expert_is_not_the_other_one(kinoform: Run, experts: dict[str, Path], here: Path) -> None:
    shutil.copy(experts["high"], here / "low_noise.safetensors")
    ran = kinoform("plan", "--model", f"high={experts['high']}", "--model", "low=low_noise.safetensors")
    assert ran.refusal == "experts_same_file" and "low_noise.safetensors" in ran.sentence


def test_damage_of_the_low_expert_is_told_before_the_high_one_is_read(
    experts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = load_file(experts["low"])
    tensors["blocks.0.self_attn.q.weight"][0, 0] = float("nan")
    save_file(tensors, tmp_path / "low_noise.safetensors")
    for beside in ("vae", "text_encoders"):  # of ComfyUI's folders
        (tmp_path / beside).symlink_to(experts["low"].parents[1] / beside)
    pipe = load({"high": experts["high"], "low": tmp_path / "low_noise.safetensors"})
    monkeypatch.setattr("kinoform.loading.parts.load_module", pytest.fail)
    with refused("weights_not_finite", "low_noise.safetensors"):
        pipe.parts.transformers[0](torch.float32, torch.device("cpu"))


def test_files_are_completed_behind_the_name_of_an_expert(experts: dict[str, Path]) -> None:
    start = str(experts["high"])[:-12]
    assert model_names(f"high={start}") == [f"high={experts['high']}"]


@pytest.mark.parametrize("layout", ["official", "diffusers"])
def test_a_folder_of_one_expert_twice_is_not_whole(kinoform: Run, layout: str, tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", layout)
    assert kinoform("verify", folder).code == 0
    high, low = (folder / name for name in FOLDERS[layout])
    shutil.rmtree(low)
    assert kinoform("verify", folder).refusal == "expert_alone"
    assert kinoform("verify", high).code == 0
    low.symlink_to(high)
    for command in ("verify", "inspect"):
        ran = kinoform(command, folder, "--json")
        codes = ran.told[0]["faults"][0] if command == "verify" else ran.told[0]["generate"]
        assert codes["code"] == "experts_same_file"


def test_a_file_that_cannot_be_read_is_named_before_an_expert_is_missed(kinoform: Run, tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", "comfy")
    low = next(folder.glob("*low*"))
    low.write_bytes(low.read_bytes()[:-100])
    ran = kinoform("plan", "--model", folder)
    assert ran.refusal == "weights_damaged" and low.name in ran.sentence


def test_an_autoencoder_of_another_release_is_named_by_inspect_and_generate(kinoform: Run, tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", "official")
    other = tmp_path / "other"
    write_official_folder(other, kind="ti2v")
    (file,), (finer,) = folder.glob("Wan2.1_VAE.*"), other.glob("Wan2.2_VAE.*")
    shutil.copyfile(finer, file)
    told = kinoform("inspect", folder, "--json").told[0]["generate"]
    assert told["code"] == "parts_mismatch" and file.name in told["reason"]
    ran = kinoform("generate", PROMPT, "--model", folder)
    assert ran.refusal == "parts_mismatch" and file.name in ran.sentence


def test_inspect_says_the_model_the_experts_and_what_generate_does(kinoform: Run, experts: dict[str, Path]) -> None:
    (told,) = kinoform("inspect", experts["high"].parent, "--json").told
    assert told["generate"] == {"model": "t2v-a14b"}
    assert [part["expert"] for part in told["parts"]] == ["high", "low"]
    ran = kinoform("inspect", experts["low"])
    assert "expert       the one for low noise" in ran.out and "generate     refused" in ran.out


@pytest.mark.parametrize("layout", ["official", "diffusers"])
def test_the_cache_folder_is_called_after_the_model(
    kinoform: Run, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    place = tmp_path / "cache" / "kinoform" / "i2v-a14b"
    ran = kinoform("generate", PROMPT, "--model", "i2v-a14b", *SMALL)
    assert ran.refusal == "weights_missing" and str(place) in ran.sentence
    write_expert_folder(place, layout, "i2v")
    plan = kinoform("plan", "--model", "i2v-a14b", "--variant", "i2v-a14b", *SMALL, "--json")
    assert plan.code == 0, plan.err
    (told,) = kinoform("verify", "i2v-a14b", "--json").told
    assert told["faults"] == [] and told["files"] == 4
    (found,) = fetched()
    assert found.value == "i2v-a14b"
    lost = next(place.glob("*/diffusion_pytorch_model.safetensors"))
    lost.unlink()
    ran = kinoform("generate", PROMPT, "--model", "i2v-a14b", *SMALL)
    assert ran.refusal == "weights_missing" and "kinoform download i2v-a14b" in ran.sentence
