"""A model is given what it needs of each clip, and no more: TI2V learns from words where no image is given."""

import pytest

from kinoform.conditions.protocols import VideoSize
from kinoform.datasets.read import needed_frames
from kinoform.mini.adapters import context, frames, vace
from kinoform.mini.recipe import mini
from kinoform.recipes.catalogue import RELEASED

VIDEO = VideoSize(num_frames=17, height=64, width=64)
NEEDED = {"i2v-14b-480p": (0,), "i2v-14b-720p": (0,), "i2v-a14b": (0,), "flf2v-14b": (0, -1)}


@pytest.mark.parametrize("name", RELEASED)
def test_released_models_are_given_the_images_that_they_need(name: str) -> None:
    assert needed_frames(RELEASED[name]().conditioners, VIDEO) == NEEDED.get(name, ())


@pytest.mark.parametrize("recipe", [mini, frames, vace, context])
def test_the_embedded_models_need_none(recipe) -> None:
    assert needed_frames(recipe().conditioners, VIDEO) == ()
