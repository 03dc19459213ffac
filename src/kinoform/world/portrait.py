"""Reference images: one object by itself and nothing of the video, perhaps in a colour that no word names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from kinoform.world.backgrounds import PLAIN, Background
from kinoform.world.motions import STILL
from kinoform.world.palette import BACKGROUND_COLOURS, GRAY, OBJECT_COLOURS, WHITE, Colour
from kinoform.world.render import render
from kinoform.world.sampling import COLOUR_JITTER, colour_is_held_out, pick
from kinoform.world.scene import LARGE, SMALL, Scene, Story, Thing
from kinoform.world.shapes import Shape

RGB = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

GROUNDS = (GRAY, WHITE)
OFF_CENTRE = 0.08
"""The largest distance of the object from the middle, along each axis, in frame sides."""


def portrait(
    thing: Thing,
    generator: np.random.Generator,
    *,
    height: int = 64,
    width: int = 64,
    rgb: RGB | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw the object on plain gray or white: its colour and shape, in another size, shade and place, upright.

    So an image can be no frame of the video, and what is common to both is who the object is. With `rgb`, red, green
    and blue from 0 to 255, it has this colour in place of its own.
    """
    grounds = [ground for ground in GROUNDS if ground != thing.subject.colour]
    ground = pick(generator, grounds)
    shade = generator.integers(-COLOUR_JITTER, COLOUR_JITTER + 1, 3)
    if rgb is not None:
        shade = np.subtract(rgb, thing.subject.colour.rgb)
    red, green, blue = map(int, shade)
    x, y = (0.5 + float(step) for step in generator.uniform(-OFF_CENTRE, OFF_CENTRE, 2))
    shown = replace(
        thing,
        subject=replace(thing.subject, motion=STILL),
        x=x,
        y=y,
        radius=float(generator.uniform(SMALL.radius, LARGE.radius)),
        jitter=(red, green, blue),
    )
    story = Story(subjects=(shown.subject,), background=Background(colour=ground, texture=PLAIN))
    return render(Scene(story=story, things=(shown,)), num_frames=1, height=height, width=width)[0]


def off_palette_colour(shape: Shape, generator: np.random.Generator, besides: Colour | None = None) -> RGB:
    """Draw any colour but one nearest to what is held out of training with this shape, or to `besides`."""
    choices = [colour for colour in BACKGROUND_COLOURS if colour in OBJECT_COLOURS or colour == besides]
    while True:
        rgb = generator.integers(0, 256, 3)
        nearest = min(choices, key=lambda colour: int(np.square(np.subtract(colour.rgb, rgb)).sum()))
        if nearest != besides and not colour_is_held_out(nearest, shape):
            red, green, blue = map(int, rgb)
            return red, green, blue


def recoloured(scene: Scene, rgb: RGB) -> Scene:
    """Return the scene of one object with the object in this colour; its story still names its own."""
    (thing,) = scene.things
    red, green, blue = (int(step) for step in np.subtract(rgb, thing.subject.colour.rgb))
    return replace(scene, things=(replace(thing, jitter=(red, green, blue)),))


def is_off_palette(thing: Thing) -> bool:
    """Tell whether its colour is further from the word's than any shade of it."""
    return max(map(abs, thing.jitter)) > COLOUR_JITTER
