"""Edits by a model that reads the video and references in context, with mask, composite and segments on top."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinoform.conditions.standard_inputs import MASK, REFERENCE_IMAGES, VIDEO
from kinoform.editing.edit import edit
from kinoform.editing.edit_plan import plan_edit
from kinoform.pipelines.pipeline import Pipeline
from kinoform.recipes.load import load
from tests.editing.pretend import video
from tests.support.diffusers_folder import write_diffusers_folder
from tests.support.narrowing import some
from tests.support.refusals import refused

SIZE: dict[str, Any] = {"width": 64, "height": 48, "num_frames": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "bernini"
    write_diffusers_folder(path)
    (path / "config.json").write_text(json.dumps({"model_type": "bernini_renderer"}))
    return path


@pytest.fixture(scope="module")
def bernini(folder: Path) -> Pipeline:
    return load(folder, device="cpu", dtype="float32")


def white(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    mask = np.zeros((frames, height, width), np.uint8)
    mask[:, 16:32, 20:40] = 255
    return mask


def test_beyond_the_mask_every_byte_stays_in_all_segments(bernini: Pipeline) -> None:
    source, reference = video(8, 48, 64), video(1, 40, 24, seed=3)[0]
    edited = edit(bernini, source, "a red ball", seed=1, mask=white(8), reference_images=[reference], steps=1, **SIZE)
    frames, outside = edited.video.frames, edited.alpha == 0
    assert frames.shape == source.shape and outside.any() and (edited.alpha == 1).any()
    assert np.array_equal(frames[outside], source[outside]) and not np.array_equal(frames, source)
    assert len(edited.report.segments) == 2 and bernini.recipe.name == "bernini-1.3b"


def test_what_the_model_sees_is_the_video_then_the_references(bernini: Pipeline) -> None:
    shown = [video(1, 40, 24, seed=n)[0] for n in (3, 4)]
    plan = plan_edit(bernini, video(5, 48, 64), "a red ball", seed=1, mask=white(5), reference_images=shown, **SIZE)
    asked = plan.request(0, plan.source.frames)
    assert asked.task == "rv2v" and asked.whole_prompt.endswith(
        " specialized in video editing with reference.a red ball"
    )
    assert len(asked.inputs[REFERENCE_IMAGES]) == 2 and MASK in asked.inputs
    assert np.array_equal(some(asked.inputs[VIDEO]).frames, plan.source.frames)
    named = plan_edit(bernini, video(5, 48, 64), "a red ball", seed=1, task="mv2v", **SIZE).request(
        0, plan.source.frames
    )
    assert named.task == "mv2v" and "lighting" in named.whole_prompt


def test_references_and_the_video_change_what_is_made(bernini: Pipeline) -> None:
    clip, shown = video(5, 48, 64), [video(1, 32, 32, seed=3)[0]]
    inputs: list[dict[str, Any]] = [
        {},
        {"video": clip},
        {"video": clip, "reference_images": shown},
        {"reference_images": shown},
    ]
    made = [bernini("a red ball", seed=1, num_inference_steps=1, **SIZE, **given).frames for given in inputs]
    assert len({frames.tobytes() for frames in made}) == 4


def test_what_the_models_cannot_take_is_refused_and_others_are_named(bernini: Pipeline, folder: Path) -> None:
    shown = [video(1, 32, 32, seed=3)[0]]
    text_only = load(folder, variant="t2v-1.3b", device="cpu", dtype="float32")
    with refused("input_not_taken", "bernini-1.3b, bernini-a14b"):
        edit(text_only, video(5, 48, 64), "a red ball", seed=1, reference_images=shown, **SIZE)
    with refused("too_many", "9"):
        edit(bernini, video(5, 48, 64), "a red ball", seed=1, reference_images=shown * 9, **SIZE)
    with refused("image_too_narrow", "too small"):
        bernini("a red ball", seed=1, video=video(5, 6, 64), **SIZE)
