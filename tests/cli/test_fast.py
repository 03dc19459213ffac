"""`--fast` makes the videos of a model by the student that was distilled from it, and says so."""

from pathlib import Path

import numpy as np

from kinoform.media.metadata import read_params
from kinoform.media.read import read_clip
from tests.support.command_line import Run
from tests.support.narrowing import of_type

PROMPT = "a red ball moves right on a blue background"


def test_the_student_is_told_recorded_and_made_again(kinoform: Run, here: Path) -> None:
    ran = kinoform("generate", PROMPT, "--fast", "--seed", 1, "--device", "cpu", "-o", "video.mkv")
    assert ran.code == 0 and "mini:fast" in ran.err
    made = read_params(here / "video.mkv")
    assert of_type(dict, made["model"])["name"] == "mini:fast"
    assert (made["steps"], made["guidance_scale"]) == (4, 1)
    assert kinoform("rerun", "video.mkv", "--device", "cpu", "-o", "again.mkv").code == 0
    assert read_params(here / "again.mkv") == made
    assert np.array_equal(read_clip(here / "video.mkv").frames, read_clip(here / "again.mkv").frames)


def test_a_plan_of_few_steps_is_that_of_the_student(kinoform: Run) -> None:
    fast, whole = (kinoform("plan", *words, "--device", "cpu", "--json").told[-1] for words in (("--fast",), ()))
    assert fast["model"] == "mini:fast"
    assert (fast["evaluations"]["forwards"], whole["evaluations"]["forwards"]) == (4, 32)
