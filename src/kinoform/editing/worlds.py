"""What is said before a model that knows only its own small world is given a video of another one."""

from __future__ import annotations

import warnings

from kinoform.conditions.fitting import Size
from kinoform.recipe import Recipe


def tell_world(recipe: Recipe, name: str, size: Size) -> None:
    """Warn that the model has seen nothing like the video or image `name` of this size, if that cannot be its own.

    Its own have the size that it makes, or one that is that many times larger.
    """
    own = size[0] % recipe.height == 0 and size[0] * recipe.width == size[1] * recipe.height
    if recipe.world is not None and not own:
        warnings.warn(
            f"{recipe.name} knows only its own world, {recipe.world}; it will make little of {name}: take a released "
            "model for that, such as vace-1.3b (kinoform download vace-1.3b)",
            stacklevel=4,
        )
