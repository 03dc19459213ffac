"""Odd sides, and what an edit of many passes takes: what is advised works, and the whole edit is planned."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kinoform.media.video import Video
from kinoform.media.video_writer import read_video
from kinoform.pipelines import fit
from tests.support.command_line import Run

WORDS = ["--prompt", "a blue cat", "--seed", "7"]


@pytest.fixture
def model(folder: Path, here: Path) -> list[str]:
    noise = np.random.default_rng(0).integers(0, 256, (7, 19, 23, 3), dtype=np.uint8)
    Video(frames=noise, fps=8.0).save(here / "odd.mkv")
    return ["--model", str(folder), "--recipe", "tests.support.tiny_recipe:tiny_of_videos", "--device", "cpu"]


def test_odd_sides_are_refused_with_an_option_that_works(kinoform: Run, model: list[str]) -> None:
    words = ["edit", "odd.mkv", *WORDS, *model]
    ran = kinoform(*words, "-o", "new.mp4")
    assert ran.refusal == "size_not_multiple" and "--even" in ran.err and "23x19" in ran.err
    assert kinoform(*words, "-o", "new.mp4", "--even").code == 0
    assert read_video(Path("new.mp4"))[0].shape == (7, 20, 24, 3)
    assert kinoform(*words, "-o", "new.mkv", "--even").code == 0
    frames = read_video(Path("new.mkv"))[0]
    assert np.array_equal(frames[:, 19], frames[:, 18]) and np.array_equal(frames[:, :, 23], frames[:, :, 22])


def test_a_dry_run_plans_all_passes(kinoform: Run, model: list[str], unread: None) -> None:
    told = kinoform("edit", "odd.mkv", *WORDS, *model, "--overlap", 1, "--dry-run", "--json").told[0]
    assert told["passes"] == 3 and told["beside"] == 7 * 19 * 23 * 13
    ran = kinoform("extend", "odd.mkv", *WORDS, *model, "--context", 2, "--frames", 3, "--dry-run")
    assert "the first of 3 passes" in ran.out and "the video itself takes" in ran.out


def test_a_video_that_takes_the_whole_memory_is_refused_before_the_work(
    kinoform: Run, model: list[str], unread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def memory(device: torch.device) -> int:
        return 7 * 19 * 23 * 13

    monkeypatch.setattr(fit, "memory_of", memory)
    ran = kinoform("edit", "odd.mkv", *WORDS, *model)
    assert ran.refusal == "does_not_fit" and "ffmpeg" in ran.err
