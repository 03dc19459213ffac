"""A video is what was asked for, it is always the same one, and it says how to make it again."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kinoform
from kinoform.media.metadata import read_params
from kinoform.media.video import Video
from kinoform.pipelines.generate import Progress
from kinoform.pipelines.pipeline import Pipeline
from kinoform.solvers.euler import Euler
from tests.support.refusals import refused
from tests.support.tiny_recipe import ADDRESS, tiny_pipeline

PROMPT = "a red ball moves left"


def same(one: Video, other: Video) -> bool:
    return np.array_equal(one.frames, other.frames)


def test_a_video_has_the_size_and_rate_that_were_asked_for(pipe: Pipeline) -> None:
    video = pipe(PROMPT, seed=7)
    assert isinstance(video, kinoform.Video)
    assert video.frames.dtype == np.uint8 and video.frames.shape == (3, 16, 16, 3) and video.fps == 8
    other = pipe(PROMPT, seed=7, num_frames=5, width=24, height=12, fps=12.5)
    assert other.frames.shape == (5, 12, 24, 3) and other.fps == 12.5


def test_the_same_seed_makes_the_same_video_and_another_seed_another(pipe: Pipeline) -> None:
    first = pipe(PROMPT, seed=7)
    assert not same(first, pipe(PROMPT, seed=8))
    assert same(first, pipe(PROMPT, seed=7)), "a pipeline remembers nothing of the videos before"


def test_loading_again_makes_no_difference(pipe: Pipeline, folder: Path) -> None:
    assert same(pipe(PROMPT, seed=7), tiny_pipeline(folder)(PROMPT, seed=7))


def test_a_video_does_not_depend_on_the_global_generator(pipe: Pipeline) -> None:
    torch.manual_seed(1)
    first = pipe(PROMPT, seed=7)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert same(first, pipe(PROMPT, seed=7))
    assert torch.equal(state, torch.get_rng_state())


def test_without_a_seed_one_is_drawn_and_told(pipe: Pipeline) -> None:
    first, second = pipe(PROMPT), pipe(PROMPT)
    assert first.params["seed"] != second.params["seed"] and not same(first, second)
    seed = first.params["seed"]
    assert isinstance(seed, int) and same(first, pipe(PROMPT, seed=seed))


def test_a_fresh_generator_stands_for_its_seed(pipe: Pipeline) -> None:
    video = pipe(PROMPT, generator=torch.Generator().manual_seed(7))
    assert same(video, pipe(PROMPT, seed=7)) and video.params["seed"] == 7


def test_a_generator_that_has_drawn_goes_on_and_claims_no_seed(pipe: Pipeline) -> None:
    generator = torch.Generator().manual_seed(7)
    first, second = pipe(PROMPT, generator=generator), pipe(PROMPT, generator=generator)
    assert not same(first, second)
    assert second.params["seed"] is None


def test_a_seed_beside_a_generator_is_refused(pipe: Pipeline) -> None:
    with refused("options_conflict", "seed=3"):
        pipe(PROMPT, seed=3, generator=torch.Generator())


CHANGES = [
    {"num_inference_steps": 4},
    {"guidance_scale": 1.0},
    {"guidance_scale": 7.0},
    {"negative_prompt": "a blue cat"},
    {"shift": 8.0},
    {"solver": Euler()},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_keyword_changes_the_video_and_what_it_says_of_itself(pipe: Pipeline, change: dict) -> None:
    plain, changed = pipe(PROMPT, seed=7), pipe(PROMPT, seed=7, **change)
    assert not same(plain, changed)
    assert plain.params != changed.params


def test_the_prompt_matters_and_at_guidance_1_the_negative_prompt_does_not(pipe: Pipeline) -> None:
    assert not same(pipe(PROMPT, seed=7), pipe("a blue cat", seed=7))
    one, other = (pipe(PROMPT, seed=7, guidance_scale=1.0, negative_prompt=text) for text in ("", "a blue cat"))
    assert same(one, other)


def test_params_are_enough_to_make_the_video_again(pipe: Pipeline, tmp_path: Path) -> None:
    video = pipe(PROMPT, num_inference_steps=2, guidance_scale=2.5, shift=2.0, num_frames=5, width=12)
    told: dict[str, Any] = read_params(video.save(tmp_path / "video.mp4", upscale=2))
    keys = ("negative_prompt", "seed", "width", "height", "num_frames", "fps", "shift")
    again = pipe(
        told["prompt"],
        num_inference_steps=told["steps"],
        guidance_scale=told["guidance_scale"],
        **{key: told[key] for key in keys},
    )
    assert same(video, again)
    assert told["model"] == {"name": "tiny", "hash": pipe.parts.fingerprint()}
    assert told["solver"] == "unipc" and told["dtype"] == "float32" and told["task"] == "t2v"


def test_the_callback_sees_every_piece_of_work_in_order(pipe: Pipeline) -> None:
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)

    pipe(PROMPT, seed=7, callback=watch)
    assert [(each.stage, each.done, each.total) for each in seen] == [
        ("text", 1, 1), ("denoise", 1, 3), ("denoise", 2, 3), ("denoise", 3, 3), ("decode", 1, 2), ("decode", 2, 2)
    ]  # fmt: skip


def test_the_callback_sees_the_video_as_predicted_then(pipe: Pipeline) -> None:
    predictions = []

    def watch(progress: Progress) -> None:
        if progress.x0 is not None:
            predictions.append(progress.x0.clone())

    asked = pipe.request(PROMPT, seed=7, steps=4, solver=Euler())
    final = next(pipe.latents([asked], watch))
    assert len(predictions) == 4 and predictions[0].shape == final.shape
    assert all(not torch.equal(earlier, later) for earlier, later in pairwise(predictions))
    assert torch.allclose(predictions[-1], final, atol=1e-5), "Euler's last step lands on its prediction"


@pytest.mark.parametrize(("stage", "done"), [("text", 1), ("denoise", 2), ("decode", 1)])
def test_a_callback_that_returns_false_ends_the_work_there(pipe: Pipeline, stage: str, done: int) -> None:
    seen = []

    def stop(progress: Progress) -> bool:
        seen.append((progress.stage, progress.done))
        return (progress.stage, progress.done) != (stage, done)

    with refused("interrupted", stage, f"{done} of"):
        pipe(PROMPT, seed=7, callback=stop)
    assert seen[-1] == (stage, done)
    pipe(PROMPT, seed=7)


def test_the_prompt_is_extended_by_the_function_that_was_handed_over(pipe: Pipeline) -> None:
    longer = replace(pipe, extend=lambda prompt: f"{prompt} a blue cat")
    video = longer("a red ball", seed=7)
    assert same(video, pipe("a red ball a blue cat", seed=7))
    assert video.params["prompt"] == "a red ball a blue cat"


def test_load_takes_the_function(folder: Path, pipe: Pipeline) -> None:
    loaded = kinoform.load(folder, recipe=ADDRESS, device="cpu", extend=lambda prompt: "a blue cat")
    assert same(loaded("a red ball", seed=7), pipe("a blue cat", seed=7))


def test_what_an_extension_returns_is_checked_like_any_prompt(pipe: Pipeline) -> None:
    with refused("prompt_missing"):
        replace(pipe, extend=lambda prompt: " ")("a red ball", seed=7)


def test_a_pipeline_says_of_itself_what_it_is_in_a_line(pipe: Pipeline) -> None:
    assert repr(pipe) == "Pipeline(tiny: 3 frames of 16x16 at 8 fps in 3 steps, float32 on cpu)"
