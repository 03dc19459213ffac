"""Recipes of Bernini-R: official defaults, and the guidance and the words of each task."""

from collections.abc import Callable

import numpy as np
import pytest

from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.standard_inputs import FRAMES, REFERENCE_IMAGES, VIDEO
from kinoform.media.types import InputImage, InputVideo
from kinoform.models.segments import SegmentRotation
from kinoform.pipelines.request import request
from kinoform.recipe import Recipe
from kinoform.recipes import bernini
from kinoform.recipes.bernini import TASKS, bernini_1_3b, bernini_a14b
from kinoform.recipes.catalogue import RELEASED
from kinoform.recipes.wan21 import NEGATIVE
from kinoform.solvers.guidance.bernini import R2V_APG, RV2V, T2V_APG, V2V, V2V_APG
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Guidance

CLIP = InputVideo(frames=np.zeros((5, 32, 32, 3), np.uint8), fps=16.0)
IMAGE = InputImage(pixels=np.zeros((32, 32, 3), np.uint8))
HIGH, LOW = {"text": 4.0, "images": 4.5, "video": 1.25}, {"text": 3.2, "images": 3.6, "video": 1.0}


def test_each_recipe_is_in_the_catalogue() -> None:
    names = [name for name, made in RELEASED.items() if made.__module__ == bernini.__name__]
    assert names == ["bernini-1.3b", "bernini-a14b"]


@pytest.mark.parametrize(
    ("made", "boundaries", "scales"), [(bernini_1_3b, (), [HIGH]), (bernini_a14b, (0.875,), [HIGH, LOW])]
)
def test_defaults_are_those_of_the_official_command_line(
    made: Callable[[], Recipe], boundaries: tuple[float, ...], scales: list[dict[str, float]]
) -> None:
    recipe = made()
    asked = request(recipe, "a cat", 1)
    found = asked.width, asked.height, asked.num_frames, asked.fps, asked.steps, asked.shift, asked.boundaries
    assert found == (848, 480, 81, 16.0, 40, 5.0, boundaries) and asked.negative_prompt == NEGATIVE
    assert [dict(recipe.scales.of_expert(index)) for index in range(len(scales))] == [
        pytest.approx(each) for each in scales
    ]
    assert recipe.additions is not None and recipe.additions.to(recipe.transformers[0]).segments == SegmentRotation()
    if boundaries:
        assert sum(level.timestep >= 875 for level in asked.levels[:-1]) == 17


@pytest.mark.parametrize(
    ("inputs", "frames", "task", "rule"),
    [
        ({}, 81, "t2v", T2V_APG),
        ({}, 1, "t2i", T2V_APG),
        ({VIDEO: CLIP}, 5, "v2v", V2V_APG),
        ({FRAMES: {0: IMAGE}}, 1, "i2i", V2V),
        ({FRAMES: {0: IMAGE}}, 5, "i2v", V2V_APG),
        ({REFERENCE_IMAGES: (IMAGE,)}, 5, "r2v", R2V_APG),
        ({VIDEO: CLIP, REFERENCE_IMAGES: (IMAGE,)}, 5, "rv2v", RV2V),
        ({VIDEO: CLIP, FRAMES: {0: IMAGE}, REFERENCE_IMAGES: (IMAGE,)}, 5, "general", RV2V),
    ],
)
def test_what_is_given_tells_the_task_its_words_and_its_guidance(
    inputs: dict[InputField[object], object], frames: int, task: str, rule: Guidance
) -> None:
    asked = request(bernini_1_3b(), "a cat", 1, inputs=Inputs(inputs), num_frames=frames)
    assert (asked.task, asked.guidance_rule) == (task, rule)
    words = next((item.prefix for item in TASKS if item.name == task), "You are a helpful assistant.")
    assert asked.whole_prompt == f"{words}a cat" and words.startswith("You are a helpful assistant")


def test_a_rule_that_is_said_wins_and_a_guidance_of_1_is_none() -> None:
    said = request(bernini_1_3b(), "a cat", 1, inputs=Inputs({VIDEO: CLIP}), guidance_rule=V2V, num_frames=5)
    assert said.guidance_rule == V2V
    off = request(bernini_1_3b(), "a cat", 1, inputs=Inputs({VIDEO: CLIP}), guidance_scale=1.0, num_frames=5)
    assert off.guidance_rule == PlainGuidance() and not off.reads_negative


def test_a_guidance_keeps_the_recipe_s_of_conditions_that_it_does_not_name() -> None:
    def written(**changes: object) -> str:
        return request(bernini_a14b(), "a cat", 1, **changes).scales.written()

    assert written() == "high=4,high.images=4.5,high.video=1.25,low=3.2,low.images=3.6,low.video=1"
    assert written(guidance_scale=5) == "text=5,high.images=4.5,high.video=1.25,low.images=3.6,low.video=1"
    assert written(guidance_scale={"text": 3.0, "video": 2.0}) == "text=3,video=2,high.images=4.5,low.images=3.6"
    assert written(guidance_scale=1) == "1", "none is none"
