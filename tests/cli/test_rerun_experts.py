"""A video of two transformers tells both, and is made again from itself."""

from pathlib import Path

import numpy as np
import pytest

from kinoform.media.metadata import read_params
from kinoform.media.read import read_clip
from tests.support.command_line import Run
from tests.support.tiny_recipe import write_tiny_of_two

WORDS = ("--recipe", "tests.support.tiny_recipe:tiny_of_two", "--device", "cpu")


@pytest.fixture(scope="module")
def folder_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_of_two(tmp_path_factory.mktemp("two") / "model")


def test_a_video_of_two_transformers_is_made_again(kinoform: Run, here: Path, folder_of_two: Path) -> None:
    folder = folder_of_two
    assert kinoform("generate", "a red ball", "--model", folder, *WORDS, "--seed", 1, "-o", "video.mkv").code == 0
    assert kinoform("rerun", "video.mkv", "--model", folder, *WORDS, "-o", "again.mkv").code == 0
    first, again = (read_params(here / name) for name in ("video.mkv", "again.mkv"))
    assert first["guidance_scale"] == {"high": 4.0, "low": 2.0} and first["boundaries"] == [0.6] and again == first
    assert np.array_equal(read_clip(here / "video.mkv").frames, read_clip(here / "again.mkv").frames)


def test_a_guidance_scale_of_each_is_said_by_flag_environment_or_file(
    kinoform: Run, here: Path, folder_of_two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of_two

    def scale(*words: str) -> object:
        ran = kinoform("generate", "a ball", "--model", folder, *WORDS, *words, "--json", "--force", "-o", "x.gif")
        assert ran.code == 0, ran.err
        return ran.told[0]["guidance_scale"]

    (here / "kinoform.toml").write_text("guidance_scale = 5\n")
    assert scale() == 5.0
    (here / "kinoform.toml").write_text("guidance_scale = 'high=5,low=2.5'\n")
    assert scale() == {"high": 5.0, "low": 2.5}
    monkeypatch.setenv("KINOFORM_GUIDANCE_SCALE", "low = 1, high = 6")
    assert scale() == {"high": 6.0, "low": 1.0}
    assert scale("--guidance-scale", "high=3,low=1.5") == {"high": 3.0, "low": 1.5}
    said = ("generate", "a ball", "--model", folder, *WORDS, "--guidance-scale", "high=4,low=1")
    plan, told = kinoform(*said, "--dry-run").out, kinoform(*said, "--dry-run", "--json").told[0]["plan"]
    assert "guidance high=4,low=1" in plan and "expert high: 4 evaluations, guidance 4" in plan
    assert told["guidance_scale"] == {"high": 4.0, "low": 1.0}


@pytest.mark.parametrize(
    ("scale", "code", "named"),
    [
        ("4,3", "expert_not_said", "high=4,low=3"),
        ("4,3,2", "expert_not_said", "1=4,2=3,3=2"),
        ("high=4", "expert_missing", "low"),
        ("high=4,lwo=3", "unknown_expert", "lwo"),
        ("high=4,low=3,high=2", "said_twice", "high"),
        ("high=4,3", "bad_value", "high=4,3"),
        ("high=4,low=", "bad_value", "high=4,low="),
        ("high=4,low=nan", "value_out_of_range", "low"),
    ],
)
def test_scales_that_do_not_say_each_expert_once(
    kinoform: Run, folder_of_two: Path, scale: str, code: str, named: str
) -> None:
    ran = kinoform("generate", "a ball", "--model", folder_of_two, *WORDS, "--guidance-scale", scale, "--dry-run")
    assert ran.refusal == code and named in ran.sentence


def test_a_folder_of_two_is_refused_for_a_recipe_of_one(kinoform: Run, folder_of_two: Path) -> None:
    ran = kinoform(
        "generate",
        "a red ball",
        "--model",
        folder_of_two,
        "--recipe",
        "tests.support.tiny_recipe:tiny",
        "--device",
        "cpu",
    )
    assert ran.refusal == "recipe_contradicts_weights"
