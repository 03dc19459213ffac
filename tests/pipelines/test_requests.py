"""A request that cannot be carried out is refused at once, with the value and what to change."""

import re
from dataclasses import replace
from itertools import pairwise

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
from kinoform.errors import UsageError
from kinoform.media.types import InputImage, InputVideo, Mask
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import LARGEST_SEED, MOST_STEPS
from kinoform.recipes import wan21
from kinoform.recipes.catalogue import takers
from kinoform.solvers.names import SOLVERS
from tests.support.refusals import refused

ILLEGAL = [
    ({"num_frames": 4}, "4 frames .* nearest are 3 and 5"),
    ({"num_frames": 0}, "num_frames .* not 0"),
    ({"num_frames": -3}, "num_frames .* not -3"),
    ({"width": 18}, "width of 18 .* nearest are 16 and 20"),
    ({"height": 1}, "height of 1 .* nearest .* 4"),
    ({"height": 0}, "height .* not 0"),
    ({"width": 100_004}, "width .* not 100004"),
    ({"steps": 0}, "steps .* 1 to 1000, not 0"),
    ({"steps": 1001}, "steps .* not 1001"),
    ({"guidance_scale": float("nan")}, "guidance_scale .* 0 to 100, not nan"),
    ({"guidance_scale": -0.1}, "guidance_scale .* not -0.1"),
    ({"guidance_scale": 101}, "guidance_scale .* not 101"),
    ({"shift": 0}, "shift .* not 0"),
    ({"shift": float("inf")}, "shift .* not inf"),
    ({"fps": 0}, "fps .* not 0"),
    ({"fps": float("nan")}, "fps .* not nan"),
    ({"fps": 241}, "fps .* not 241"),
    ({"seed": -1}, "seed .* not -1"),
    ({"seed": LARGEST_SEED + 1}, "seed .* not 9223372036854775808"),
    ({"seed": True}, "seed .* not True"),
    ({"prompt": ""}, "prompt is empty; say"),
    ({"prompt": " \n\t"}, "prompt is empty"),
    ({"prompt": "a\x00b"}, r"prompt holds U\+0000 at character 2"),
    ({"prompt": "a\x1b[31m"}, r"U\+001B at character 2; remove it"),
    ({"prompt": "caf\udce9"}, r"U\+DCE9 at character 4"),
    ({"prompt": "x" * (MOST_TEXT + 1)}, "20001 characters"),
    ({"negative_prompt": "\x85"}, r"negative prompt holds U\+0085"),
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


@pytest.mark.parametrize(("change", "sentence"), ILLEGAL, ids=lambda value: str(value)[:40])
def test_a_value_out_of_range_is_named(pipe: Pipeline, change: dict, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        pipe.request(**({"prompt": "a red ball", "seed": 1} | change))
    told = str(caught.value)
    assert re.search(sentence, told), told
    assert "\n" not in told and told.isascii()


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
    from kinoform.pipelines.request import request

    recipe = wan21.t2v_1_3b()
    for change, code, named in [
        ({"num_frames": 80}, "frames_not_multiple", "77 and 81"),
        ({"width": 833}, "size_not_multiple", "832 and 848"),
        ({"height": 488}, "size_not_multiple", "480 and 496"),
    ]:
        with refused(code, named):
            request(recipe, "a cat", 1, **change).sized(recipe.codec, recipe.transformer.patch)
