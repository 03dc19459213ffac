"""Recipes of Wan 2.2: official defaults, and the same values at every size."""

import pytest

from kinoform.models.meta import on_meta
from kinoform.pipelines.request import request
from kinoform.recipes import wan22
from kinoform.recipes.catalogue import RELEASED
from kinoform.recipes.wan21 import NEGATIVE

DEFAULTS = {
    "t2v-a14b": (1280, 720, 81, 16.0, 40, 12.0, (0.875,), (4.0, 3.0)),
    "i2v-a14b": (1280, 720, 81, 16.0, 40, 5.0, (0.9,), (3.5, 3.5)),
    "ti2v-5b": (1280, 704, 121, 24.0, 50, 5.0, (), (5.0,)),
    "vace-a14b": (1280, 720, 81, 16.0, 50, 12.0, (0.875,), (5.0, 5.0)),
}
"""Width, height, frames, frames per second, steps, shift, boundaries, and the guidance of each transformer."""


PARAMETERS = {
    "t2v-a14b": 14_288_491_584,
    "i2v-a14b": 14_288_901_184,
    "ti2v-5b": 4_999_787_712,
    "vace-a14b": 17_337_592_896,
}
"""Parameters of each transformer, as published; VACE-Fun has those of VACE-14B twice."""


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_each_transformer_has_its_published_parameters(name: str, parameters: int) -> None:
    for spec in set(RELEASED[name]().transformers):
        assert sum(weight.numel() for weight in on_meta(spec.build).parameters()) == parameters


def test_each_recipe_has_its_row() -> None:
    assert list(DEFAULTS) == [name for name, made in RELEASED.items() if made.__module__ == wan22.__name__]


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("size", [(1280, 720), (480, 832)])
def test_defaults_are_those_of_the_official_command_line(name: str, size: tuple[int, int]) -> None:
    recipe = RELEASED[name]()
    asked = request(recipe, "a cat", 1, width=size[0], height=size[1])
    scales = tuple(asked.scales.of_expert(index)["text"] for index in range(len(recipe.transformers)))
    found = recipe.width, recipe.height, asked.num_frames, asked.fps, asked.steps, asked.shift, asked.boundaries, scales
    assert (recipe.name, *found) == (name, *DEFAULTS[name])
    assert asked.negative_prompt == NEGATIVE and recipe.image is None
