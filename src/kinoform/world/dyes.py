"""Objects in colours that no word tells: a shape is learnt apart from the colours that it is seen in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kinoform.world.palette import BACKGROUND_COLOURS, OBJECT_COLOURS, Colour
from kinoform.world.sampling import COLOUR_JITTER, colour_is_held_out
from kinoform.world.scene import Scene, Thing
from kinoform.world.shapes import Shape

Dye = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


def any_colour(shape: Shape, generator: np.random.Generator, besides: Colour | None = None) -> Dye:
    """Any one, but not nearest to a colour that is held out of training with this shape, nor to `besides`."""
    choices = [colour for colour in BACKGROUND_COLOURS if colour in OBJECT_COLOURS or colour == besides]
    while True:
        dye = generator.integers(0, 256, 3)
        nearest = min(choices, key=lambda colour: int(np.square(np.subtract(colour.rgb, dye)).sum()))
        if nearest != besides and not colour_is_held_out(nearest, shape):
            red, green, blue = map(int, dye)
            return red, green, blue


def dyed(scene: Scene, dye: Dye) -> Scene:
    """The scene of one object with the object in this colour; its story still names its own."""
    (thing,) = scene.things
    red, green, blue = (int(step) for step in np.subtract(dye, thing.subject.colour.rgb))
    return replace(scene, things=(replace(thing, jitter=(red, green, blue)),))


def is_dyed(thing: Thing) -> bool:
    """Tell whether its colour is further from the word's than any shade of it."""
    return max(map(abs, thing.jitter)) > COLOUR_JITTER
