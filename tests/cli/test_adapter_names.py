"""Adapters by name and by file in every command: a video is made and made again, and what they cannot do is said."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kinoform.loading.lora import save_lora
from kinoform.media.metadata import read_params
from kinoform.media.video_writer import read_video
from kinoform.models.lora import LoRASpec, adapters_of, attach
from kinoform.pipelines.machine import DTYPES
from kinoform.recipes import catalogue, load
from tests.support.adapter_files import write_adapter, write_adapter_of
from tests.support.command_line import Run
from tests.support.official_folder import write_official_folder
from tests.support.refusals import refused
from tests.support.tiny_recipe import ADDRESS

DEPTH = "tests.support.widened_recipes:as_embedded"
MAKE = ["generate", "a red ball", "--device", "cpu", "--seed", 7, "-o", "video.mkv"]


@pytest.fixture
def adapter(here: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the tiny model, where that and the adapter pass for embedded ones: `tiny`, `tiny:depth`."""
    path = write_adapter(here / "tiny-depth.safetensors", folder, DEPTH)
    monkeypatch.setattr(load, "ASSETS", folder.parent)
    monkeypatch.setitem(catalogue.EMBEDDED, "tiny", ADDRESS)
    monkeypatch.setitem(catalogue.ADAPTERS, "tiny:depth", DEPTH)
    monkeypatch.setattr(catalogue, "ASSETS", here)
    return path


def test_a_video_by_name_makes_itself_again(kinoform: Run, adapter: Path, folder: Path) -> None:
    ran = kinoform(*MAKE, "--model", "tiny:depth")
    assert ran.code == 0, ran.err
    told = read_params(Path("video.mkv"))["model"]
    hashes = [load.load(each, device="cpu").parts.fingerprint() for each in ("tiny:depth", adapter, "tiny")]
    channels = {"latents": 4, "depth": 2, "pose": 1}
    assert told == {"name": "tiny:depth", "hash": hashes[0], "channels": channels, "additions_seed": 5}
    assert hashes[0] == hashes[1] != hashes[2]

    ran = kinoform("rerun", "video.mkv", "-o", "again.mkv")
    assert ran.code == 0, ran.err
    assert np.array_equal(read_video(Path("video.mkv"))[0], read_video(Path("again.mkv"))[0])
    assert kinoform(*MAKE[:-1], "base.mkv", "--model", "tiny").code == 0
    assert not np.array_equal(read_video(Path("video.mkv"))[0], read_video(Path("base.mkv"))[0])

    write_adapter(adapter.with_name("other.safetensors"), folder, DEPTH, seed=1).replace(adapter)
    ran = kinoform("rerun", "video.mkv", "-o", "other.mkv")
    assert ran.refusal == "weights_wrong_model" and f"'{hashes[0]}'" in ran.sentence


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_lora_is_put_onto_an_adapter_in_any_dtype(kinoform: Run, adapter: Path, dtype: str) -> None:
    model = load.load(adapter, device="cpu").parts.transformer(torch.float32, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    changed = attach(model, LoRASpec(rank=2), generator=generator)
    for each in adapters_of(changed)["lora"].values():
        each.up.data.fill_(0.02)
    save_lora(Path("lora.safetensors"), changed)
    ran = kinoform(*MAKE, "--model", adapter, "--dtype", dtype, "--lora", "lora.safetensors")
    assert ran.code == 0, ran.err
    assert "lora.safetensors: 30 tensors applied" in ran.err and "usual" not in ran.err


def test_a_plan_counts_what_is_added(kinoform: Run, adapter: Path) -> None:
    names = ("tiny", "tiny:depth", adapter)
    plain, named, filed = (kinoform("plan", "--model", name, "--json").told[0] for name in names)
    counts = [plan["parameters"]["transformer"] for plan in (plain, named, filed)]
    assert counts[1] == counts[2] == counts[0] + 3 * 24 * 4


def test_a_file_says_what_it_is(kinoform: Run, adapter: Path) -> None:
    ran = kinoform("inspect", adapter, "--json")
    assert ran.code == 0, ran.err
    (part,) = ran.told[0]["parts"]
    base = load.load("tiny", device="cpu").parts.fingerprint()
    assert (part["part"], part["base"], part["chosen"]) == ("adapter", f"tiny {base}", DEPTH)
    assert part["sizes"] == {"added": 1, "changed": 6, "rank": 3} and part["dtypes"] == {"BF16": 13}
    text = kinoform("inspect", adapter).out
    assert f"goes onto    tiny {base}" in text and f"{DEPTH} (by its metadata)" in text
    ran = kinoform("verify", adapter)
    assert ran.code == 0 and "is whole: 1 files, 13 tensors" in ran.out


REFUSED = [
    (
        ["convert", "tiny-depth.safetensors", "o.safetensors", "--format", "comfy"],
        "adapter_not_lora",
        "--model",
    ),
    ([*MAKE, "--model", "tiny", "--lora", "tiny-depth.safetensors"], "lora_missing", "--model"),
    ([*MAKE, "--model", "tiny:depht"], "unknown_model", "'tiny:depth'"),
    ([*MAKE, "--model", "tiny:depth", "--vae", "tiny-depth.safetensors"], "options_conflict", "tiny"),
    ([*MAKE, "--model", "tiny:depth", "--recipe", ADDRESS], "channels_differ", "'depth': 2"),
]


@pytest.mark.parametrize(("words", "code", "named"), REFUSED, ids=[code for _, code, _ in REFUSED])
def test_what_an_adapter_cannot_do_is_said(
    kinoform: Run, adapter: Path, words: list[object], code: str, named: str
) -> None:
    ran = kinoform(*words)
    assert ran.refusal == code and named in ran.sentence, ran.err
    assert {path.name for path in Path().iterdir()} == {"tiny-depth.safetensors"}


def test_a_file_names_no_folder_and_no_strange_recipe(adapter: Path, folder: Path) -> None:
    """Neither weights nor code are chosen by a stranger."""
    with refused("adapter_base_unknown", "'elsewhere'", "tiny"):
        load.load(write_adapter(adapter.with_name("a.safetensors"), folder, DEPTH, base="elsewhere"), device="cpu")
    strange = write_adapter(adapter.with_name("b.safetensors"), folder, "tests.support.widened_recipes:depth_then_pose")
    with refused("recipe_not_trusted", "--recipe tests.support.widened_recipes:depth_then_pose"):
        load.load(strange, device="cpu")
    found = load.load(strange, recipe="tests.support.widened_recipes:depth_then_pose", device="cpu")
    assert found.recipe.name == "tiny-widened" and found.address == "tests.support.widened_recipes:depth_then_pose"


def test_an_adapter_of_a_released_model_needs_its_folder_alone(
    kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    write_official_folder(here / "cache" / "kinoform" / "t2v-1.3b")
    base, recipe = load.load("t2v-1.3b", device="cpu"), "tests.support.widened_recipes:of_released"
    path = write_adapter_of(base.parts, here / "a.safetensors", recipe, base="t2v-1.3b")
    ran = kinoform(*MAKE, "--model", path, "--recipe", recipe, "--steps", 1, "--size", "16x16", "--frames", 5)
    assert ran.code == 0, ran.err
    told = read_params(Path("video.mkv"))["model"]
    assert isinstance(told, dict) and told["channels"] == {"latents": 16, "depth": 2} and told["recipe"] == recipe
    assert told["hash"] not in ("", base.parts.fingerprint())


def test_an_adapter_that_is_not_there_is_trained_first(kinoform: Run, adapter: Path) -> None:
    adapter.unlink()
    ran = kinoform(*MAKE, "--model", "tiny:depth")
    assert ran.refusal == "weights_missing"
    assert "kinoform train tiny:depth" in ran.sentence and "--model" in ran.sentence
