"""Draw scenes: which features a level has, which combinations are held out, and where things are placed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from kinoform.world.backgrounds import (
    CHECKER,
    FIXED,
    PANS_LEFT,
    PANS_RIGHT,
    PLAIN,
    STRIPES,
    Background,
    Camera,
)
from kinoform.world.motions import (
    AMPLITUDES,
    BOUNCE,
    GROW,
    LEFT,
    MOTIONS,
    PAIR_MOTIONS,
    RIGHT,
    SHRINK,
    SPIN,
    STILL,
    UP,
    Freedom,
    Motion,
)
from kinoform.world.palette import BACKGROUND_COLOURS, OBJECT_COLOURS, Colour
from kinoform.world.scene import LARGE, MEDIUM, PAIR_SHRINK, SMALL, Scene, Size, Story, Subject, Thing
from kinoform.world.shapes import BALL, CROSS, RING, SHAPES, SQUARE, STAR, TRIANGLE, Shape

Choice = TypeVar("Choice")

HELD_OUT_MOTIONS = (
    (STAR, LEFT),
    (BALL, UP),
    (SQUARE, GROW),
    (RING, BOUNCE),
    (TRIANGLE, RIGHT),
    (CROSS, SHRINK),
)

PAIR_PLACES = (0.26, 0.74)
RADIUS_JITTER = 0.075
COLOUR_JITTER = 6
VIDEO_TIMES = 33


@dataclass(frozen=True, slots=True, kw_only=True)
class Difficulty:
    """Probabilities of the features that a scene may have.

    `textured`: stripes or checker; `sized`: an object is small or large; `panned`: the camera pans, given a
    texture and one object; `paired`: two objects.
    """

    textured: float = 0.0
    sized: float = 0.0
    panned: float = 0.0
    paired: float = 0.0


L1 = Difficulty()
"""One object of medium size that moves over a plain background."""

L2 = Difficulty(textured=2 / 3, sized=2 / 3, panned=0.25)
"""One object; two thirds of the scenes have a texture, two thirds of the objects another size, and cameras may pan."""

L3 = replace(L2, paired=0.5)
"""Scenes of L2, and in half of them two objects."""


def sample_scene(level: Difficulty, generator: np.random.Generator, *, held_out: bool = False) -> Scene:
    """Return a scene of the level: with at least one held-out combination, or with none."""
    return place(sample_story(level, generator, held_out=held_out), generator)


def scene_from_seed(seed: int, level: Difficulty = L1, *, held_out: bool = False) -> Scene:
    """Return the scene that this seed names, the same on every machine."""
    return sample_scene(level, np.random.default_rng(seed), held_out=held_out)


def is_held_out(story: Story) -> bool:
    """Tell whether any object has a combination that training never shows."""
    return any(
        colour_is_held_out(subject.colour, subject.shape) or motion_is_held_out(subject.shape, subject.motion)
        for subject in story.subjects
    )


def colour_is_held_out(colour: Colour, shape: Shape) -> bool:
    """Tell whether (5 * colour + 3 * shape) mod 8 = 0, with indices in OBJECT_COLOURS and SHAPES."""
    return (5 * OBJECT_COLOURS.index(colour) + 3 * SHAPES.index(shape)) % 8 == 0


def motion_is_held_out(shape: Shape, motion: Motion) -> bool:
    """Tell whether the pair is one of the six that only validation shows."""
    return (shape, motion) in HELD_OUT_MOTIONS


def sample_story(level: Difficulty, generator: np.random.Generator, *, held_out: bool = False) -> Story:
    """Draw what the video is about, again until it lies on the side of the split that was asked for."""
    while True:
        story = _draw_story(level, generator)
        if is_held_out(story) == held_out:
            return story


def place(story: Story, generator: np.random.Generator) -> Scene:
    """Choose all that the story leaves free, keeping every object inside the frame as far as it fits."""
    pair = len(story.subjects) == 2
    drift = story.camera.drift * float(generator.uniform(*AMPLITUDES))
    things = []
    for index, subject in enumerate(story.subjects):
        thing = _loose_thing(subject, generator, shrink=PAIR_SHRINK if pair else 1.0)
        x, y = _home(thing, generator, drift=drift)
        things.append(replace(thing, x=PAIR_PLACES[index] if pair else x, y=y))
    return Scene(story=story, things=tuple(things), drift=drift)


def _draw_story(level: Difficulty, generator: np.random.Generator) -> Story:
    count = 2 if generator.random() < level.paired else 1
    texture = pick(generator, (STRIPES, CHECKER)) if generator.random() < level.textured else PLAIN
    pans = generator.random() < level.panned and texture != PLAIN and count == 1
    camera: Camera = pick(generator, (PANS_LEFT, PANS_RIGHT)) if pans else FIXED
    ground, *colours = _several(generator, BACKGROUND_COLOURS, OBJECT_COLOURS, count)
    motions = PAIR_MOTIONS if count == 2 else (STILL,) if pans else MOTIONS
    return Story(
        subjects=tuple(_draw_subject(colour, motions, level, generator) for colour in colours),
        background=Background(colour=ground, texture=texture),
        camera=camera,
    )


def _draw_subject(
    colour: Colour, motions: tuple[Motion, ...], level: Difficulty, generator: np.random.Generator
) -> Subject:
    shape = pick(generator, SHAPES)
    visible = motions if shape.fold else tuple(motion for motion in motions if motion != SPIN)
    size: Size = pick(generator, (SMALL, LARGE)) if generator.random() < level.sized else MEDIUM
    return Subject(colour=colour, shape=shape, motion=pick(generator, visible), size=size)


def pick(generator: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    """Draw one of the choices, each equally likely."""
    return choices[int(generator.integers(len(choices)))]


def _several(
    generator: np.random.Generator, grounds: tuple[Colour, ...], objects: tuple[Colour, ...], count: int
) -> list[Colour]:
    """Return a background colour and `count` object colours, all different."""
    chosen = [pick(generator, grounds)]
    for _ in range(count):
        chosen.append(pick(generator, tuple(colour for colour in objects if colour not in chosen)))
    return chosen


def _loose_thing(subject: Subject, generator: np.random.Generator, *, shrink: float) -> Thing:
    """Return a thing in the middle of the frame; every free value is drawn whether the motion needs it or not."""
    factor = shrink * float(generator.uniform(1 - RADIUS_JITTER, 1 + RADIUS_JITTER))
    red, green, blue = (int(step) for step in generator.integers(-COLOUR_JITTER, COLOUR_JITTER + 1, 3))
    freedom = Freedom(
        amplitude=float(generator.uniform(*AMPLITUDES)),
        phase=float(generator.random()),
        sense=1 if generator.random() < 0.5 else -1,
    )
    radius = subject.size.radius * factor
    return Thing(subject=subject, x=0.5, y=0.5, radius=radius, freedom=freedom, jitter=(red, green, blue))


def _home(thing: Thing, generator: np.random.Generator, *, drift: float) -> tuple[float, float]:
    """Return a place from which the whole motion fits the frame, or the middle of the frame if none does."""
    motion, along = thing.subject.motion, generator.random(2)
    u = np.linspace(0, 1, VIDEO_TIMES)
    track = motion.track(u, thing.freedom)
    reach = thing.subject.shape.reach * thing.radius * track.scale
    x = 0.5 if motion.centred_x or drift else _between(track.dx, reach, float(along[0]))
    y = 0.5 if motion.centred_y else _between(track.dy, reach, float(along[1]))
    return x, y


def _between(offset: np.ndarray, reach: np.ndarray, along: float) -> float:
    low, high = float(np.max(reach - offset)), float(np.min(1 - reach - offset))
    return 0.5 * (low + high) if low > high else low + along * (high - low)
