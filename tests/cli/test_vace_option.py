"""`--vace` on the command line: the words, the plan, and the video that is made again from what it tells."""

import shutil
from pathlib import Path

import pytest

from kinoform.cli.values import files_of
from kinoform.media.metadata import read_params
from tests.support.command_line import Run
from tests.support.refusals import refused
from tests.weights.test_vace_onto import Pair, official

SMALL = ["--size", "32x32", "--frames", "5", "--steps", "1", "--seed", "3", "--device", "cpu"]


def test_files_are_one_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("high=a.safetensors").touch()
    assert files_of("--vace", None) is None and files_of("--vace", ["b.safetensors"]) == "b.safetensors"
    assert files_of("--vace", ["high=a.safetensors"]) == "high=a.safetensors"
    assert files_of("--vace", ["low=b", "high=c=d"]) == {"low": "b", "high": "c=d"}
    assert files_of("--vace", ["low=b"]) == {"low": "b"}
    for texts, code in (
        (["a", "b"], "expert_not_said"),
        (["high=a", "b"], "expert_not_said"),
        (["high=a", "high=b"], "said_twice"),
    ):
        with refused(code, "--vace"):
            files_of("--vace", texts)


@pytest.fixture
def pair(here: Path) -> Pair:
    return official(here)


def test_a_video_is_made_again_from_the_module_that_it_names(kinoform: Run, pair: Pair, here: Path) -> None:
    whole = kinoform("generate", "a cat", "--model", pair.whole, *SMALL, "-o", "whole.mkv")
    made = kinoform("generate", "a cat", "--model", pair.base, "--vace", pair.vace, *SMALL, "-o", "v.mkv")
    assert whole.code == made.code == 0 and "3 VACE blocks" in made.err
    told = read_params(here / "v.mkv")
    assert told["task"] == read_params(here / "whole.mkv")["task"] and told["vace"] == ["vace:0"]
    ran = kinoform("rerun", "v.mkv", "-o", "again.mkv")
    assert ran.refusal == "weights_missing" and "kinoform download t2v-1.3b" in ran.sentence
    again = kinoform("rerun", "v.mkv", "--model", pair.base, "-o", "again.mkv")
    assert again.code == 0, again.err
    assert read_params(here / "again.mkv")["model"] == told["model"]
    assert (here / "again.mkv").read_bytes() == (here / "v.mkv").read_bytes()
    shutil.move(str(pair.vace), here / "away.safetensors")
    ran = kinoform("rerun", "v.mkv", "--model", pair.base, "-o", "third.mkv")
    assert ran.refusal == "file_missing" and "module.safetensors" in ran.sentence
    words = ["--vace", here / "away.safetensors"]
    assert kinoform("rerun", "v.mkv", "--model", pair.base, *words, "-o", "third.mkv").code == 0


def test_a_plan_counts_the_module(kinoform: Run, pair: Pair) -> None:
    def parameters(*words: object) -> int:
        (told,) = kinoform("plan", *words, *SMALL, "--json").told
        return told["parameters"]["transformer"]

    assert parameters("--model", pair.base, "--vace", pair.vace) == parameters("--model", pair.whole)
    assert parameters("--model", pair.base) < parameters("--model", pair.whole)
