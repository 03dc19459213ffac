"""A video of two transformers tells both, and is made again from itself."""

from pathlib import Path

import numpy as np
import pytest

from kinoform.media.metadata import read_params
from kinoform.media.read import read_clip
from tests.support.command_line import Run
from tests.support.tiny_recipe import write_tiny_of_two

WORDS = ("--recipe", "tests.support.tiny_recipe:tiny_of_two", "--device", "cpu")


def test_a_video_of_two_transformers_is_made_again(kinoform: Run, here: Path) -> None:
    folder = write_tiny_of_two(here / "model")
    assert kinoform("generate", "a red ball", "--model", folder, *WORDS, "--seed", 1, "-o", "video.mkv").code == 0
    assert kinoform("rerun", "video.mkv", "--model", folder, *WORDS, "-o", "again.mkv").code == 0
    first, again = (read_params(here / name) for name in ("video.mkv", "again.mkv"))
    assert first["guidance_scale"] == [4.0, 2.0] and first["boundaries"] == [0.6] and again == first
    assert np.array_equal(read_clip(here / "video.mkv").frames, read_clip(here / "again.mkv").frames)


def test_a_guidance_scale_of_each_is_said_by_flag_environment_or_file(
    kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_of_two(here / "model")

    def scale(*words: str) -> object:
        ran = kinoform("generate", "a ball", "--model", folder, *WORDS, *words, "--json", "--force", "-o", "x.gif")
        assert ran.code == 0, ran.err
        return ran.told[0]["guidance_scale"]

    (here / "kinoform.toml").write_text("guidance_scale = 5\n")
    assert scale() == 5.0
    (here / "kinoform.toml").write_text("guidance_scale = '5,2.5'\n")
    assert scale() == [5.0, 2.5]
    monkeypatch.setenv("KINOFORM_GUIDANCE_SCALE", "6, 1")
    assert scale() == [6.0, 1.0]
    assert scale("--guidance-scale", "3,1.5") == [3.0, 1.5]
    ran = kinoform("generate", "a ball", "--model", folder, *WORDS, "--guidance-scale", "4,3,2")
    assert ran.refusal == "wrong_number_of_values"
    plan = kinoform("generate", "a ball", "--model", folder, *WORDS, "--guidance-scale", "4,1", "--dry-run").out
    assert "guidance 4,1" in plan and "transformer 1 of 2: 4 evaluations, guidance 4" in plan


def test_a_folder_of_two_is_refused_for_a_recipe_of_one(kinoform: Run, here: Path) -> None:
    folder = write_tiny_of_two(here / "model")
    ran = kinoform(
        "generate", "a red ball", "--model", folder, "--recipe", "tests.support.tiny_recipe:tiny", "--device", "cpu"
    )
    assert ran.refusal == "recipe_contradicts_weights"
