"""An image of one object by itself: what a reference shows of it, and nothing of the video."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from kinoform.world.backgrounds import PLAIN, Background
from kinoform.world.motions import STILL
from kinoform.world.palette import GRAY, WHITE
from kinoform.world.render import render
from kinoform.world.sampling import COLOUR_JITTER
from kinoform.world.scene import LARGE, SMALL, Scene, Story, Thing

GROUNDS = (GRAY, WHITE)
OFF_CENTRE = 0.08
"""The largest distance of the object from the middle, along each axis, in frame sides."""


def portrait(
    thing: Thing,
    generator: np.random.Generator,
    *,
    height: int = 64,
    width: int = 64,
    dye: tuple[int, int, int] | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """The object on plain gray or white: its colour and shape, in another size, shade and place, upright.

    So an image can be no frame of the video, and what is common to both is who the object is. With `dye`, red, green
    and blue from 0 to 255, it has this colour in place of its own.
    """
    grounds = [ground for ground in GROUNDS if ground != thing.subject.colour]
    ground = grounds[int(generator.integers(len(grounds)))]
    shade = generator.integers(-COLOUR_JITTER, COLOUR_JITTER + 1, 3)
    if dye is not None:
        shade = np.subtract(dye, thing.subject.colour.rgb)
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
