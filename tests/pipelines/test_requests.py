"""A request that cannot be carried out is refused at once, with the value and what to change."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from kinoform.conditions.input_kinds import MOST_TEXT
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import (
    CONTEXT_SCALE,
    EXACT_SIZE,
    FRAMES,
    MASK,
    REFERENCE_IMAGES,
    STRENGTH,
    VIDEO,
)
from kinoform.media.types import InputImage, InputVideo, Mask
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import LARGEST_SEED, MOST_STEPS, request
from kinoform.recipes import wan21, wan22
from kinoform.recipes.catalogue import takers
from kinoform.solvers.names import SOLVERS
from tests.support.refusals import refused, refused_briefly

ILLEGAL: list[tuple[Any, ...]] = [
    ({"num_frames": 4}, "frames_not_multiple", "3 and 5"),
    ({"num_frames": 0}, "value_out_of_range", "num_frames", "0"),
    ({"num_frames": -3}, "value_out_of_range", "num_frames", "-3"),
    ({"width": 18}, "size_not_multiple", "width", "16 and 20"),
    ({"height": 1}, "size_not_multiple", "height", "4"),
    ({"height": 0}, "value_out_of_range", "height", "0"),
    ({"width": 100_004}, "value_out_of_range", "width", "100004"),
    ({"steps": 0}, "value_out_of_range", "steps", "1 to 1000"),
    ({"steps": 1001}, "value_out_of_range", "steps", "1001"),
    ({"guidance_scale": float("nan")}, "value_out_of_range", "guidance_scale", "0 to 100", "nan"),
    ({"guidance_scale": -0.1}, "value_out_of_range", "guidance_scale", "-0.1"),
    ({"guidance_scale": 101}, "value_out_of_range", "guidance_scale", "101"),
    ({"shift": 0}, "value_out_of_range", "shift", "0"),
    ({"shift": float("inf")}, "value_out_of_range", "shift", "inf"),
    ({"fps": 0}, "value_out_of_range", "fps", "0"),
    ({"fps": float("nan")}, "value_out_of_range", "fps", "nan"),
    ({"fps": 241}, "value_out_of_range", "fps", "241"),
    ({"seed": -1}, "value_out_of_range", "seed", "-1"),
    ({"seed": LARGEST_SEED + 1}, "value_out_of_range", "seed", "9223372036854775808"),
    ({"seed": True}, "not_a_whole_number", "seed", "True"),
    ({"prompt": ""}, "prompt_missing"),
    ({"prompt": " \n\t"}, "prompt_missing"),
    ({"prompt": "a\x00b"}, "character_not_allowed", "prompt", "U+0000", "2"),
    ({"prompt": "a\x1b[31m"}, "character_not_allowed", "prompt", "U+001B", "2"),
    ({"prompt": "caf\udce9"}, "character_not_allowed", "prompt", "U+DCE9", "4"),
    ({"prompt": "x" * (MOST_TEXT + 1)}, "too_long", "prompt", "20001"),
    ({"negative_prompt": "\x85"}, "character_not_allowed", "negative prompt", "U+0085"),
]


PIXELS = np.zeros((8, 8, 3), np.uint8)
UNTAKEN = [
    Inputs({FRAMES: {0: InputImage(pixels=PIXELS)}}),
    Inputs({VIDEO: InputVideo(frames=PIXELS[None])}),
    Inputs({MASK: Mask(values=PIXELS[None, ..., 0])}),
    Inputs({REFERENCE_IMAGES: (InputImage(pixels=PIXELS),)}),
    Inputs({STRENGTH: 0.5}),
    Inputs({CONTEXT_SCALE: 0.5}),
    Inputs({EXACT_SIZE: True}),
]


@pytest.mark.parametrize("inputs", UNTAKEN, ids=lambda inputs: next(iter(inputs)).name)
def test_an_input_that_nothing_takes_names_the_models_that_would(pipe: Pipeline, inputs: Inputs) -> None:
    (item,) = inputs
    with refused("input_not_taken") as caught:
        replace(pipe, takers=takers).request("a red ball", seed=1, inputs=inputs)
    assert item.said in str(caught.value) and all(name in str(caught.value) for name in takers(item))


@pytest.mark.parametrize("illegal", ILLEGAL, ids=lambda illegal: str(illegal[0])[:40])
def test_a_value_out_of_range_is_named(pipe: Pipeline, illegal: tuple[Any, ...]) -> None:
    change, code, *named = illegal
    with refused_briefly(code, *named) as caught:
        pipe.request(**({"prompt": "a red ball", "seed": 1} | change))
    assert str(caught.value).isascii()


LEGAL = [
    {"num_frames": 1},
    {"steps": 1},
    {"steps": 1000},
    {"guidance_scale": 0},
    {"shift": 0.01},
    {"fps": 23.976},
    {"seed": LARGEST_SEED},
    {"prompt": "红色的球 😀\n\tcafé"},
    {"negative_prompt": ""},
]


@pytest.mark.parametrize("change", LEGAL, ids=str)
def test_values_at_the_edge_are_taken_as_they_are(pipe: Pipeline, change: dict) -> None:
    asked = pipe.request(**({"prompt": "a red ball", "seed": 1} | change))
    for name, value in change.items():
        assert getattr(asked, name) == value


def test_what_is_not_said_comes_from_the_recipe(pipe: Pipeline) -> None:
    asked, recipe = pipe.request("a red ball", seed=1, steps=None), pipe.recipe
    for name in (
        "negative_prompt",
        "width",
        "height",
        "num_frames",
        "fps",
        "steps",
        "guidance_scale",
        "shift",
        "solver",
    ):
        assert getattr(asked, name) == getattr(recipe, name)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("shift", [0.01, 1000.0])
def test_levels_fall_strictly_at_the_edges_of_what_may_be_asked_for(name: str, shift: float) -> None:
    levels = SOLVERS[name].levels(MOST_STEPS, shift)
    assert all(after.sigma < level.sigma for level, after in pairwise(levels))


def test_released_models_name_their_own_legal_sizes() -> None:
    recipe = wan21.t2v_1_3b()
    for change, code, named in [
        ({"num_frames": 80}, "frames_not_multiple", "77 and 81"),
        ({"width": 833}, "size_not_multiple", "832 and 848"),
        ({"height": 488}, "size_not_multiple", "480 and 496"),
    ]:
        with refused(code, named):
            request(recipe, "a cat", 1, **change).sized(recipe.codec, recipe.transformer.patch)


def test_experts_without_a_boundary_are_told_before_their_scales() -> None:
    for boundaries in ((), (0.9, 0.5)):
        with refused("boundary_invalid", "t2v-a14b", "0.875"):
            request(wan22.t2v_a14b(), "a cat", 1, boundaries=boundaries, guidance_scale={"high": 4, "low": 3})
    with refused("boundary_invalid", "leave them out"):
        request(wan21.t2v_1_3b(), "a cat", 1, boundaries=(0.9,))


def test_a_video_of_one_frame_has_no_times_for_prompts() -> None:
    with refused("prompt_times_invalid"):
        request(wan21.t2v_1_3b(), "[0-2s] a cat [2-4s] a dog", 1, num_frames=1)
