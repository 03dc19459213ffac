"""The promise of an edit: beyond the feathered mask every pixel is the source's, whatever the model draws."""

import json
from pathlib import Path

import numpy as np
import pytest

from kinoform.conditions.video_to_video import StartVideo
from kinoform.editing.edit import edit
from kinoform.editing.settings import EditSettings
from kinoform.errors import Interrupted
from kinoform.media.types import InputVideo
from kinoform.pipelines.generate import Progress
from kinoform.pipelines.request import Request
from tests.editing.pretend import copied, far, noise, painted, pretended, spots, video
from tests.support.tiny_recipe import tiny_pipeline

PROMPT = "a red ball moves left"
SHARP = EditSettings(grow=0, feather=0.0, match_colours=False)


@pytest.mark.parametrize("size", [(37, 53), (100, 64), (8, 40)])
@pytest.mark.parametrize(("frames", "moving"), [(5, False), (9, True), (23, True), (40, False)])
def test_what_lies_outside_is_equal_bit_for_bit(folder: Path, size: tuple[int, int], frames: int, moving: bool) -> None:
    source, white = video(frames, *size), spots(frames if moving else 1, *size, seed=frames)
    settings = EditSettings(grow=1, feather=2.5)
    found = edit(pretended(folder, noise), source, PROMPT, mask=white, settings=settings, seed=frames)
    distances = [far(each) for each in white] * (1 if moving else frames)
    outside = np.stack(distances) > 3.5
    assert np.array_equal(found.video.frames[outside], source[outside])
    assert found.report.outside_equal and found.report.outside_pixels == outside.sum()
    assert (found.alpha[outside] == 0).all() and (found.alpha[~outside] > 0).all()
    grown = np.stack(distances) <= 1
    assert (found.video.frames[grown] != source[grown]).mean() > 0.9
    assert found.video.frames.shape == source.shape == found.raw.shape


def test_a_model_of_flesh_and_bone_keeps_the_promise_and_makes_the_same_video_twice(folder: Path) -> None:
    pipe = tiny_pipeline(folder, conditioners=(StartVideo(),), num_frames=5)
    source, white = InputVideo(frames=video(12, 20, 28), fps=12.5), spots(12, 20, 28, number=6)
    settings = EditSettings(grow=1, feather=1.0)
    one, other = (edit(pipe, source, PROMPT, mask=white, settings=settings, seed=4) for _ in range(2))
    outside = np.stack([far(each) for each in white]) > 2
    assert np.array_equal(one.video.frames[outside], source.frames[outside])
    assert np.array_equal(one.video.frames, other.video.frames)
    assert one.video.fps == 12.5
    told = json.loads(json.dumps(one.video.params, allow_nan=False))
    assert told["task"] == "edit" and told["fps"] == 12.5 and (told["width"], told["num_frames"]) == (16, 5)
    assert told["edit"]["outside_equal"] is True and told["edit"]["settings"]["grow"] == 1
    assert [each["seed"] for each in told["edit"]["segments"]] == [4, 5, 6]


def test_what_is_made_of_the_same_size_is_laid_in_as_it_is(folder: Path) -> None:
    source, white = video(9, 16, 16), np.zeros((1, 16, 16), bool)
    white[0, :, 8:] = True
    found = edit(pretended(folder, painted(10, 200, 30)), source, PROMPT, mask=white, settings=SHARP, seed=0)
    assert (found.video.frames[:, :, 8:] == [10, 200, 30]).all()
    assert np.array_equal(found.video.frames[:, :, :8], source[:, :, :8])
    assert found.report.changed_share == 0.5


def test_a_model_that_changes_nothing_is_told_of_and_measures_so(folder: Path) -> None:
    source, white = video(9, 16, 16), spots(1, 16, 16)
    with pytest.warns(UserWarning, match=r"changed next to nothing: 0\.0 of 255"):
        found = edit(pretended(folder, copied), source, PROMPT, mask=white, seed=0)
    assert np.array_equal(found.video.frames, source) and np.array_equal(found.raw, source)
    assert found.report.raw_psnr_outside_db == np.inf
    assert found.report.boundary_delta_e == found.report.boundary_delta_e_worst == 0
    assert found.report.colour_shift == (0, 0, 0)


def test_raw_psnr_is_that_of_what_the_model_made(folder: Path) -> None:
    def brighter(asked: Request) -> np.ndarray:
        return copied(asked) + 10

    source, white = video(9, 16, 16) // 2, spots(1, 16, 16)
    found = edit(pretended(folder, brighter), source, PROMPT, mask=white, settings=SHARP, seed=0)
    assert found.report.raw_psnr_outside_db == pytest.approx(20 * np.log10(25.5))
    assert np.array_equal(found.raw, source + 10)


@pytest.mark.filterwarnings("ignore:the edit changed next to nothing")
@pytest.mark.parametrize("matched", [True, False])
def test_colours_inside_follow_those_around_if_that_is_asked_for(folder: Path, matched: bool) -> None:
    def darker(asked: Request) -> np.ndarray:
        return (0.9 * copied(asked).astype(np.float32) + 3).round().astype(np.uint8)

    source, white = 100 + video(9, 16, 16) // 8, np.zeros((1, 16, 16), bool)
    white[0, 4:9, 4:9] = True
    settings = EditSettings(grow=0, feather=0.0, match_colours=matched)
    found = edit(pretended(folder, darker), source, PROMPT, mask=white, settings=settings, seed=0)
    error = np.abs(found.video.frames.astype(int) - source)[:, 4:9, 4:9].mean()
    assert error < 1.5 if matched else error > 5


def test_segments_fade_into_each_other(folder: Path) -> None:
    def by_seed(asked: Request) -> np.ndarray:
        return np.full((asked.num_frames, asked.height, asked.width, 3), 100 * (asked.seed - 6), np.uint8)

    settings = EditSettings(overlap=4, match_colours=False)
    found = edit(pretended(folder, by_seed), video(14, 16, 16), PROMPT, settings=settings, seed=7)
    values = found.video.frames[:, 8, 8, 0]
    assert values.tolist() == [100] * 5 + [120, 140, 160, 180] + [200] * 5
    assert [(each.start, each.stop, each.seed) for each in found.report.segments] == [(0, 9, 7), (5, 14, 8)]
    assert found.report.outside_pixels == 0 and found.report.boundary_delta_e is None


@pytest.mark.parametrize(("first", "last", "made"), [(30, 33, [(23, 32), (31, 40)]), (25, 31, [(23, 32)])])
def test_only_segments_with_something_new_to_change_are_made(
    folder: Path, first: int, last: int, made: list[tuple[int, int]]
) -> None:
    source, white = video(40, 16, 16), np.zeros((40, 16, 16), bool)
    white[first:last, 4, 4] = True
    pipe = pretended(folder, noise)
    found = edit(pipe, source, PROMPT, mask=white, settings=EditSettings(overlap=1), seed=3)
    assert [(each.start, each.stop) for each in found.report.segments] == made
    assert [asked.seed for asked in pipe.seen] == [3, 4][: len(made)]
    assert np.array_equal(found.raw[:23], source[:23])
    assert np.array_equal(found.video.frames[:first], source[:first])
    assert np.array_equal(found.video.frames[last:], source[last:])


def test_progress_is_told_over_all_segments_and_ends_the_work(folder: Path) -> None:
    heard: list[tuple[int, int]] = []

    def tell(now: Progress) -> bool | None:
        if now.stage == "denoise":
            heard.append((now.done, now.total))
        return None if len(heard) < 4 else False

    with pytest.raises(Interrupted):
        edit(pretended(folder, noise), video(14, 16, 16), PROMPT, seed=0, on_progress=tell)
    assert heard == [(1, 6), (2, 6), (3, 6), (4, 6)]


def test_a_video_that_does_not_tell_its_rate_gets_that_of_the_recipe(folder: Path) -> None:
    assert edit(pretended(folder, noise), video(5, 16, 16), PROMPT, seed=0).video.fps == 8.0
