"""A warning before a model that knows only its own small world is given a video of another one."""

from __future__ import annotations

import warnings

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.resize import Size
from kinoform.conditions.standard_inputs import FRAMES, VIDEO
from kinoform.recipe import Recipe


def tell_worlds(recipe: Recipe, given: Inputs) -> None:
    """Warn as `tell_world` does of the video, else of the first image, that a video is made from."""
    video = given[VIDEO]
    if video is not None:
        tell_world(recipe, video.name, video.size)
    for image in list(given[FRAMES].values())[:1]:
        tell_world(recipe, image.name, image.size, instead="i2v-14b-480p")


def tell_world(recipe: Recipe, name: str, size: Size, *, instead: str = "vace-1.3b") -> None:
    """Warn that the model has seen nothing like the video or image `name` of this size, if that cannot be its own.

    Its own have the size that it makes, or one that is that many times larger. `instead` is a model that would do.
    """
    own = size[0] % recipe.height == 0 and size[0] * recipe.width == size[1] * recipe.height
    if recipe.world is not None and not own:
        warnings.warn(
            f"{recipe.name} knows only its own world, {recipe.world}; it will make little of {name}: take a released "
            f"model for that, such as {instead} (kinoform download {instead})",
            stacklevel=4,
        )
