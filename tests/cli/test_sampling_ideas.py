"""The ideas that change how a video is sampled, and no module: a rule of guidance, and a few-step recipe."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from kinoform.media.metadata import read_params
from kinoform.media.read import read_clip
from kinoform.recipes.load import load
from tests.support.command_line import Run

IDEAS = Path(__file__).parents[2] / "examples" / "ideas"
PROMPT = "a red ball moves left"


@pytest.fixture(autouse=True)
def beside_the_ideas(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(IDEAS))
    monkeypatch.setenv("KINOFORM_DEVICE", "cpu")


def test_guidance_that_does_not_fade_is_plain_guidance() -> None:
    rule = importlib.import_module("fading_guidance").Fading(power=0.0)
    pipe = load("mini", device="cpu")
    plain = pipe(PROMPT, guidance_scale=4, num_inference_steps=2, seed=1)
    own = pipe(PROMPT, guidance_scale=4, num_inference_steps=2, seed=1, guidance_rule=rule)
    assert np.array_equal(plain.frames, own.frames)


def test_a_rule_of_ones_own_is_planned_made_and_made_again(kinoform: Run, here: Path) -> None:
    words = ("--recipe", "fading_guidance:recipe", "--guidance", "4", "--steps", "2")
    assert kinoform("plan", *words, "--json").told[0]["evaluations"]["forwards"] == 4
    one = ("--recipe", "fading_guidance:recipe", "--guidance", "1", "--steps", "2")
    assert kinoform("plan", *one, "--json").told[0]["evaluations"]["forwards"] == 2
    assert kinoform("generate", PROMPT, *words, "--seed", 1, "-o", "video.mkv").code == 0
    assert read_params(here / "video.mkv")["guidance_rule"] == "Fading(power=1.0)"
    again = kinoform("rerun", "video.mkv", "--recipe", "fading_guidance:recipe", "--model", "mini", "-o", "again.mkv")
    assert again.code == 0, again.err
    assert np.array_equal(read_clip(here / "video.mkv").frames, read_clip(here / "again.mkv").frames)


def test_a_few_step_recipe_of_ones_own_is_planned_and_refused_elsewhere(kinoform: Run) -> None:
    words = ("--recipe", "three_phases:recipe", "--json")
    plan = kinoform("plan", "--model", "t2v-a14b", *words).told[0]
    assert (plan["evaluations"]["forwards"], plan["boundaries"]) == (8, [{"step": 4}])
    first = ("--guidance", "high=3.5@0-0.125,high=1@0.125-1,low=1")
    assert kinoform("plan", "--model", "t2v-a14b", *words, *first).told[0]["evaluations"]["forwards"] == 9
    assert kinoform("plan", "--model", "mini", *words).refusal == "recipe_of_other_model"
