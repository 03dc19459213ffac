"""Videos of what an image shows: does the object come from the image, when the prompt names none?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES
from kinoform.evaluation.case import Case, Task, seed_from
from kinoform.media.types import InputImage
from kinoform.world.caption import unnamed_caption
from kinoform.world.motions import SPIN
from kinoform.world.palette import OBJECT_COLOURS
from kinoform.world.portrait import portrait
from kinoform.world.sampling import L1, sample_scene
from kinoform.world.scene import Scene
from kinoform.world.shapes import SHAPES

JOINT = {"identity": ("colour", "shape")}


def identity(generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """The same prompt and noise with an image of the object, with none, and with one of another object."""
    scene = sample_scene(L1, generator, held_out=True)
    case = Case(prompt=unnamed_caption(scene.story, generator), seed=seed_from(generator), target=scene, joint=JOINT)
    other = with_another_object(scene, generator)
    return {
        "reference": replace(case, inputs=_of(scene, generator, size)),
        "no reference": case,
        "other reference": replace(case, target=other, inputs=_of(other, generator, size)),
    }


def with_another_object(scene: Scene, generator: np.random.Generator) -> Scene:
    """The scene with its one object in another colour and another shape."""
    (thing,) = scene.things
    taken = thing.subject.colour, scene.story.background.colour
    colours = [colour for colour in OBJECT_COLOURS if colour not in taken]
    shapes = [
        shape for shape in SHAPES if shape != thing.subject.shape and (shape.fold or thing.subject.motion != SPIN)
    ]
    colour, shape = (choices[int(generator.integers(len(choices)))] for choices in (colours, shapes))
    thing = replace(thing, subject=replace(thing.subject, colour=colour, shape=shape))
    return replace(scene, story=replace(scene.story, subjects=(thing.subject,)), things=(thing,))


IDENTITY_TASKS = (Task(name="identity", needs=frozenset({REFERENCE_IMAGES}), stream=120, draw=identity),)


def _of(scene: Scene, generator: np.random.Generator, size: VideoSize) -> Inputs:
    shown = portrait(scene.things[0], generator, height=size.height, width=size.width)
    return Inputs({REFERENCE_IMAGES: (InputImage(pixels=shown),)})
