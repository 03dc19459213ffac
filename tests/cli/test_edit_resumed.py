"""Passes that an edit has made are not made again: whatever stops it, the same command goes on from what is kept."""

import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kinoform.checkpoints.latents import SUFFIX, read_passes, save_latents, save_passes
from kinoform.cli.latents import video_name
from kinoform.errors import KinoformError
from kinoform.media.metadata import read_params
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from tests.support.command_line import Ran, Run
from tests.support.full_disk import full_disk

COMMANDS = {
    "edit": ["--mask", "mask.png", "--overlap", "1"],
    "extend": ["--frames", "4", "--context", "2"],
    "outpaint": ["--to", "48x24", "--overlap", "1"],
}
VIDEO = ["--prompt", "a blue cat", "--seed", "7", "-o", "new.mkv"]


@pytest.fixture
def model(folder: Path, here: Path) -> list[str]:
    frames = np.random.default_rng(0).integers(0, 256, (7, 24, 32, 3), dtype=np.uint8)
    Video(frames=frames, fps=12.0).save(here / "video.mkv")
    Image.fromarray(np.eye(24, 32, dtype=np.uint8) * 255).save(here / "mask.png")
    return ["--model", str(folder), "--recipe", "tests.support.tiny_recipe:tiny_of_videos", "--device", "cpu"]


@pytest.fixture
def denoised(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of the passes that the model makes."""
    seeds: list[int] = []
    made = Pipeline.latents

    def latents(self: Pipeline, requests: Any, *words: Any) -> Any:
        seeds.extend(each.seed for each in requests)
        return made(self, requests, *words)

    monkeypatch.setattr(Pipeline, "latents", latents)
    return seeds


def kept_in(here: Path) -> list[Path]:
    return [file for file in here.iterdir() if video_name(file) is not None]


def advised(ran: Ran) -> list[str]:
    """The words after `kinoform` in the command that the run advised."""
    line = next(line for line in ran.err.splitlines() if "finish with: kinoform " in line)
    return shlex.split(line.split("finish with: kinoform ")[1])


def interrupted_in(number: int, asked: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but Ctrl-C comes in its so-manieth call."""
    calls = []

    def stopped(*words: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return asked(*words, **options)

    return stopped


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_loses_no_pass(
    kinoform: Run, model: list[str], here: Path, command: str, denoised: list[int]
) -> None:
    words = [command, "video.mkv", *COMMANDS[command], *VIDEO, *model]
    assert kinoform(*words).code == 0 and not kept_in(here)
    whole, passes = (here / "new.mkv").read_bytes(), len(denoised)
    assert passes > 1
    (here / "new.mkv").unlink()
    with full_disk(len(whole) - 500):
        ran = kinoform(*words)
    assert ran.refusal == "disk_full" and len(kept_in(here)) == 1 and not (here / "new.mkv").exists()
    denoised.clear()
    again = kinoform(*advised(ran))
    assert again.code == 0 and not denoised, again.err
    assert (here / "new.mkv").read_bytes() == whole, "the same video, byte for byte"
    assert not kept_in(here)


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_between_passes_keeps_those_that_are_made(
    kinoform: Run, model: list[str], here: Path, command: str, denoised: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [command, "video.mkv", *COMMANDS[command], *VIDEO, *model]
    assert kinoform(*words).code == 0
    whole, seeds = (here / "new.mkv").read_bytes(), list(denoised)
    (here / "new.mkv").write_bytes(b"what was there before")
    denoised.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "frames", interrupted_in(2, Pipeline.frames))
        ran = kinoform(*words, "--force")
    assert ran.code == 130 and denoised == seeds[:2]
    assert sorted(read_passes(kept_in(here)[0])[0]) == [0, 1]
    denoised.clear()
    again = kinoform(*advised(ran))
    assert again.code == 0 and denoised == seeds[2:], again.err
    assert (here / "new.mkv").read_bytes() == whole and not kept_in(here)


def test_a_seed_that_nobody_chose_is_among_the_words(
    kinoform: Run, model: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["extend", "video.mkv", *COMMANDS["extend"], "--prompt", "a blue cat", *model]
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "frames", interrupted_in(1, Pipeline.frames))
        ran = kinoform(*words)
    assert "--seed" in advised(ran)
    assert kinoform(*advised(ran)).code == 0 and not kept_in(here)


def test_a_run_that_drew_its_seed_goes_on_with_the_same_words(
    kinoform: Run, model: list[str], here: Path, denoised: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill nobody has said the seed; the advice is the command as it was, with --resume."""
    words = ["edit", "video.mkv", *COMMANDS["edit"], "--prompt", "a blue cat", "-o", "new.mkv", *model]
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "frames", interrupted_in(2, Pipeline.frames))
        kinoform(*words)
    (kept,) = kept_in(here)
    denoised.clear()
    again = kinoform(*words, "--resume", kept.name)
    assert again.code == 0 and not kept_in(here), again.err
    seed = read_params(here / "new.mkv")["seed"]
    assert denoised and seed not in denoised, "the first pass, whose seed this is, is made already"


def test_passes_that_do_not_fit_beside_the_video_are_kept_elsewhere(
    kinoform: Run, model: list[str], here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spare))

    def save(path: Path, passes: Any, params: Any) -> None:
        if path.parent.resolve() == here.resolve():
            raise KinoformError("no room")
        save_passes(path, passes, params)

    with monkeypatch.context() as patch:
        patch.setattr("kinoform.cli.latents.save_passes", save)
        patch.setattr("kinoform.cli.edit_common.save", interrupted_in(1, print))
        ran = kinoform("edit", "video.mkv", *COMMANDS["edit"], *VIDEO, *model)
    assert ran.code == 130 and len(list(spare.iterdir())) == 1 and not kept_in(here)
    assert kinoform(*advised(ran)).code == 0 and not list(spare.iterdir())


def test_what_is_kept_is_for_the_same_edit_alone(
    kinoform: Run, model: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["edit", "video.mkv", *COMMANDS["edit"], *VIDEO, *model]
    with monkeypatch.context() as patch:
        patch.setattr("kinoform.cli.edit_common.save", interrupted_in(1, print))
        kinoform(*words)
    file = kept_in(here)[0]
    assert kinoform("decode", file, *model).refusal == "passes_of_an_edit"
    assert kinoform(*words).refusal == "latents_waiting"
    for other in (["--seed", 8], ["--grow", 3]):
        assert kinoform(*words, *other, "--resume", file).refusal == "passes_of_another_edit"
    Video(frames=np.zeros((7, 24, 32, 3), np.uint8), fps=12.0).save(here / "other.mkv")
    assert kinoform("edit", "other.mkv", *words[2:], "--resume", file).refusal == "passes_of_another_edit"
    other = [*words, "-o", "other_name.mkv", "--resume"]
    assert file.exists() and kinoform(*other, "none" + SUFFIX).refusal == "file_missing"
    save_latents(here / ("a.mp4" + SUFFIX), torch.zeros(1, 4, 1, 1, 1), {})
    assert kinoform(*other, "a.mp4" + SUFFIX).refusal == "latents_of_a_video"
    (here / "foreign").write_bytes(b"nothing of ours")
    assert kinoform(*other, "foreign").refusal == "latents_damaged"
