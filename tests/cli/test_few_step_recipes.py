"""Few-step recipes as commands take them: named or at an address, in plans, and made again by rerun."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinoform.media.metadata import read_params
from kinoform.media.read import read_clip
from kinoform.recipe import Recipe
from kinoform.recipes.few_step import FEW_STEP
from kinoform.recipes.load import load
from kinoform.solvers.experts import AtStep
from tests.support.command_line import Run
from tests.support.tiny_recipe import tiny_of_two, write_tiny_of_two

PROMPT, TWO = "a red ball", "tests.support.tiny_recipe:tiny_of_two"


def rcm() -> Recipe:
    """The tiny model of two transformers under the recipe of rCM."""
    return replace(FEW_STEP["rcm-i2v"], models=("tiny",)).applied(tiny_of_two())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_of_two(tmp_path_factory.mktemp("two") / "model")


@pytest.mark.filterwarnings("ignore:the recipe")
def test_a_video_is_made_again_from_itself(kinoform: Run, here: Path, folder: Path) -> None:
    plain = load(folder, recipe=TWO, device="cpu")
    few_step = replace(FEW_STEP["causal-wan22"], models=("tiny",), boundaries=(AtStep(step=4),))
    replace(plain, recipe=few_step.applied(plain.recipe))(PROMPT, seed=1).save("video.mkv")
    assert kinoform("rerun", "video.mkv", "--model", folder, "--recipe", TWO, "-o", "again.mkv").code == 0
    first, again = (read_params(here / video) for video in ("video.mkv", "again.mkv"))
    assert first == again and first["guidance_scale"] == 1.0 and str(first["sampler"]).startswith("renoise(")
    assert np.array_equal(read_clip(here / "video.mkv").frames, read_clip(here / "again.mkv").frames)


def test_a_few_step_recipe_is_an_option_and_warns_of_plain_weights(kinoform: Run, here: Path, folder: Path) -> None:
    words = ("generate", PROMPT, "--model", folder, "--device", "cpu", "--seed", 1)
    made = kinoform(*words, "--recipe", f"{__name__}:rcm", "-o", "video.mkv", "--json")
    assert made.code == 0 and "the recipe rcm-i2v" in made.err
    assert (made.told[0]["steps"], made.told[0]["sampler"]) == (4, "rcm")
    assert kinoform(*words, "--recipe", "lightx2v-5step").refusal == "recipe_invalid"
    assert kinoform("plan", "--model", "mini", "--recipe", "rcm").refusal == "recipe_of_other_model"
    plan = kinoform("plan", "--model", "t2v-a14b", "--recipe", "lightx2v-4step", "--json").told[0]
    assert (plan["evaluations"]["velocities"], plan["evaluations"]["forwards"]) == (4, 4)
    assert plan["boundaries"] == [{"step": 2}]
