"""`kinoform train`: plans of one's own, and what is refused before anything is rendered."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import kinoform as package
from kinoform.checkpoints.reader import HeaderReader
from kinoform.loading.adapters import adapter_in
from kinoform.loading.own import read_manifest
from kinoform.mini.training import plan as stages
from kinoform.training import adapter
from kinoform.training.checkpoint import held
from tests.support.command_line import Run
from tests.support.refusals import refused

OTHER_DEVICE = "mps" if torch.cuda.is_available() else "cuda"
"""One that is not there."""

SOURCE = """
from dataclasses import replace

from tests.training.test_adapter import short
from tests.training.test_stages import tiny_plan as plan


def video():
    return plan().recipe


def adapter():
    return replace(short(steps=2), batch=2)


def adapted():
    return adapter().recipe


def of_nothing():
    return replace(adapter(), base="runs/mini")


def of_another():
    return replace(adapter(), recipe=other())


def other():
    return replace(plan().recipe, additions=adapted().additions)


def nothing():
    return "nothing"
"""


@pytest.fixture(autouse=True)
def own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's in the current folder, with a plan and its recipe."""
    (here / "own_idea.py").write_text(SOURCE)
    monkeypatch.delitem(sys.modules, "own_idea", raising=False)


def test_a_plan_of_ones_own_is_trained_and_its_model_loaded(kinoform: Run, here: Path) -> None:
    words = ["train", "own_idea:plan", "--recipe", "own_idea:video", "--json"]
    ran = kinoform(*words)
    assert ran.code == 0, ran.err
    model = here / "runs" / "tiny" / "model"
    assert ran.told[0]["output"] == str(model.relative_to(here))
    assert read_manifest(model).recipe == "own_idea:video"
    pipeline = package.load(model, recipe="own_idea:video", device="cpu")
    assert pipeline("a red ball", num_inference_steps=1).frames.shape == (5, 32, 32, 3)
    first = (model / "manifest.json").read_bytes()
    again = kinoform(*words, "--force")
    assert json.loads(again.out) == json.loads(ran.out), "a finished run is read, not repeated"
    assert (model / "manifest.json").read_bytes() == first


def test_an_adapter_of_ones_own_is_trained_and_loaded(kinoform: Run, here: Path) -> None:
    words = ["train", "own_idea:adapter", "--recipe", "own_idea:adapted", "--json"]
    ran = kinoform(*words)
    assert ran.code == 0, ran.err
    file = here / "runs" / "mini-in_context" / "adapter.safetensors"
    assert ran.told[0]["output"] == str(file.relative_to(here)) and file.stat().st_size < 2_000_000
    told = adapter_in(file, HeaderReader())
    assert told is not None
    assert (told.claims.base, told.claims.recipe) == ("mini", "own_idea:adapted")
    assert ran.told[0] == {"output": str(file.relative_to(here)), **told.claims.made}
    with refused("recipe_not_trusted", "--recipe own_idea:adapted"):
        package.load(file, device="cpu")
    pipeline = package.load(file, recipe="own_idea:adapted", device="cpu")
    assert pipeline("a red ball", num_inference_steps=1, width=32, height=32).frames.shape == (5, 32, 32, 3)
    first = file.read_bytes()
    ran = kinoform(*words[:-1])
    assert ran.refusal == "file_exists" and "adapter.safetensors" in ran.sentence
    assert kinoform(*words, "--force").code == 0 and file.read_bytes() == first, "a finished run is read, not repeated"


def test_a_transformer_on_another_model_is_trained_and_loaded(kinoform: Run, here: Path) -> None:
    words = [
        "train",
        "tests.support.on_base_recipes:plan",
        "--recipe",
        "tests.support.on_base_recipes:recipe",
        "--json",
    ]
    ran = kinoform(*words)
    assert ran.code == 0, ran.err
    model = here / "runs" / "tiny-on-mini" / "model"
    told = ran.told[0]
    assert told["output"] == str(model.relative_to(here)) and told["base"] == "mini"
    assert told["encoder"]["steps"] == told["transformer"]["steps"] == 3
    with refused("recipe_not_trusted", "--recipe tests.support.on_base_recipes:recipe"):
        package.load(model, device="cpu")
    pipeline = package.load(model, recipe="tests.support.on_base_recipes:recipe", device="cpu")
    portrait = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    plain, shown = (pipeline("a red ball", seed=1, reference_images=given).frames for given in ([], [portrait]))
    assert plain.shape == shown.shape == (5, 32, 32, 3)
    first = (model / "manifest.json").read_bytes()
    again = kinoform(*words, "--force")
    assert json.loads(again.out) == json.loads(ran.out), "a finished run is read, not repeated"
    assert (model / "manifest.json").read_bytes() == first


def test_a_stage_of_ones_own_is_trained_from_one_file(kinoform: Run, here: Path) -> None:
    source = (Path(__file__).parents[2] / "examples" / "ideas" / "flow_on_points.py").read_text()
    (here / "own_stage.py").write_text(source.replace("warmup=50, total=2000", "warmup=1, total=6"))
    words = ["train", "own_stage:plan", "--device", "cpu", "--json"]
    ran = kinoform(*words)
    assert ran.code == 0, ran.err
    file = here / "runs" / "points" / "weights.safetensors"
    assert ran.told[0]["output"] == str(file.relative_to(here)) and ran.told[0]["steps"] == 6
    weights = load_file(file)
    assert [tuple(each.shape) for name, each in sorted(weights.items()) if "weight" in name] == [
        (64, 3),
        (64, 64),
        (2, 64),
    ]
    assert kinoform(*words).refusal == "file_exists"
    again = kinoform(*words, "--force")
    assert again.told[0] == ran.told[0], "a finished run is read, not repeated"
    copied = kinoform(*words, "--snapshot", "kept")
    assert copied.told[0]["steps"] == {"points": 6} and (here / "kept" / "points.snapshot.json").is_file()
    elsewhere = kinoform(*words, "--run", "elsewhere", "--from-snapshot", "kept").told[0]
    assert elsewhere == ran.told[0] | {"output": str(Path("elsewhere", "weights.safetensors"))}
    for name, tensor in load_file(here / "elsewhere" / "weights.safetensors").items():
        assert torch.equal(tensor.half(), weights[name].half())
    assert kinoform(*words, "--recipe", "own_idea:video").refusal == "recipe_mismatch"


REFUSED = [
    (["mimi"], "unknown_plan", "'mini'"),
    (["own_idea:plan"], "option_missing", "own_idea:plan"),
    (["own_idea:plan", "--recipe", "kinoform.mini.recipe:mini"], "recipe_mismatch", "recipe:mini"),
    (["own_idea:plam", "--recipe", "own_idea:video"], "unknown_recipe", "'plan'"),
    (
        ["own_idea:nothing", "--recipe", "own_idea:video"],
        "recipe_invalid",
        "own_idea:nothing",
    ),
    (["own_idea:plan", "--recipe", "own_idea:nothing"], "recipe_invalid", "own_idea:nothing"),
    (["no_such_module:plan"], "module_not_importable", "'no_such_module'"),
    (["own-idea:plan"], "recipe_invalid", "'own-idea:plan'"),
    (["mini:frame"], "module_not_importable", "'mini'"),
    (
        ["mini:frames", "--recipe", "kinoform.mini.recipe:mini"],
        "recipe_mismatch",
        "mini:frames",
    ),
    (["mini:frames", "-o", "none/a.safetensors"], "folder_missing", "none"),
    (["own_idea:of_nothing", "--recipe", "own_idea:adapted"], "unknown_model", "'mini'"),
    (
        ["tests.support.on_base_recipes:on_nothing", "--recipe", "tests.support.on_base_recipes:recipe"],
        "unknown_model",
        "'runs/mini'",
    ),
    (["own_idea:of_another", "--recipe", "own_idea:other"], "recipe_mismatch", "in_context"),
    (["--device", "cdua"], "unknown_device", "'cuda'"),
    (["--device", OTHER_DEVICE], "device_missing", OTHER_DEVICE),
    (["--threads", "0"], "value_out_of_range", "--threads"),
    (["--run", "own_idea.py"], "not_a_folder", "own_idea.py"),
    (["--run", "/proc/none"], "folder_not_writable", "/proc/none"),
    (["-o", "none/model"], "folder_missing", "none"),
    (["--snapshot", "kept"], "file_missing", "runs/mini"),
    (["--from-snapshot", "kept"], "file_missing", "kept"),
    (["--from-snapshot", "."], "not_a_snapshot", "."),
    (["--snapshot", "kept", "--from-snapshot", "kept"], "options_conflict", "--from-snapshot"),
    (["-o", "own_idea.py"], "not_a_folder", "own_idea.py"),
    (["-o", ".", "--force"], "output_name_missing", "'.'"),
]


@pytest.mark.parametrize(("words", "code", "named"), REFUSED, ids=[" ".join(words) for words, *_ in REFUSED])
def test_what_cannot_be_done_is_refused_before_anything_is_rendered(
    kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: str, named: str
) -> None:
    for module, name in ((stages, "train_plan"), (stages, "train_on_base"), (adapter, "train_adapter")):
        monkeypatch.setattr(module, name, pytest.fail)
    ran = kinoform("train", *words)
    assert ran.refusal == code and named in ran.sentence, ran.err
    assert {path.name for path in here.iterdir()} <= {"own_idea.py", "__pycache__"}


def test_a_run_that_another_process_keeps_is_refused(
    kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "train_plan", pytest.fail)
    with held(here / "runs" / "mini"):
        ran = kinoform("train", "mini")
    assert ran.refusal == "training_locked" and "runs/mini" in ran.sentence
