"""Experts of the embedded model from the command line: trained, used, made again, and named where they are missing."""

from pathlib import Path

import numpy as np
import pytest

from kinoform.media.metadata import read_params
from kinoform.media.read import read_clip
from kinoform.recipes.catalogue import UNSHIPPED
from tests.support.command_line import Run
from tests.support.expert_recipes import ADDRESS


def test_experts_are_trained_and_make_a_video_that_is_made_again(kinoform: Run, here: Path) -> None:
    plan = "tests.support.expert_recipes:plan"
    ran = kinoform("train", plan, "--recipe", ADDRESS, "--run", "run", "--device", "cpu", "--json")
    assert ran.code == 0, ran.err
    assert {name: ran.told[-1][name]["steps"] for name in ("high", "low")} == {"high": 2, "low": 2}
    words = ("--model", "run/adapter.safetensors", "--recipe", ADDRESS, "--device", "cpu")
    scale = ("--guidance-scale", "high=2.5,low=1")
    assert kinoform("generate", "a red ball", *words, *scale, "--seed", 1, "--steps", 4, "-o", "video.mkv").code == 0
    assert kinoform("rerun", "video.mkv", *words, "-o", "again.mkv").code == 0
    first, again = (read_params(here / name) for name in ("video.mkv", "again.mkv"))
    assert first == again and first["guidance_scale"] == {"high": 2.5, "low": 1.0}
    assert np.array_equal(read_clip(here / "video.mkv").frames, read_clip(here / "again.mkv").frames)


@pytest.mark.parametrize("name", UNSHIPPED)
def test_what_does_not_come_with_kinoform_is_told_with_what_trains_it(kinoform: Run, name: str) -> None:
    for words in (("generate", "a ball", "--model", name), ("inspect", name), ("evaluate", name)):
        ran = kinoform(*words)
        assert ran.refusal == "weights_missing" and f"kinoform train {name}" in ran.sentence
    assert kinoform("plan", name).code == 0
