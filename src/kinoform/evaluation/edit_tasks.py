"""Edits of one object: recolour, reshape, remove, insert; and insert, or put in its place, what an image shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import MASK, REFERENCE_IMAGES, VIDEO
from kinoform.evaluation.case import Case, Task, rendered, seed_from
from kinoform.media.types import InputImage, InputVideo, Mask
from kinoform.world.caption import caption, unnamed_caption
from kinoform.world.components import boxed
from kinoform.world.pairs import Pair, covered, draw_pair
from kinoform.world.portrait import portrait
from kinoform.world.sampling import L1

NEEDS = frozenset({VIDEO, MASK})
PAIRED = replace(L1, paired=1.0)
OBJECT = ("count", "colour", "shape")
ASKED_FOR: Mapping[str, tuple[str, ...]] = {
    "recolour": ("count", "colour"),
    "reshape": ("count", "shape"),
    "remove": OBJECT,
    "insert": OBJECT,
}
"""By kind of edit, the attributes that make it right. Of what remains after a removal, since noise has a count too."""


def edited(kind: str, generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """A video, where the object is before and after, and the caption of what the video shall be."""
    pair = draw_pair(kind, L1, generator, held_out=True)
    prompt = caption(pair.target.story, generator)
    return {kind: _case(pair, prompt, ASKED_FOR[kind], generator, size)}


def inserted_reference(generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """The caption has no noun for the object to be inserted, whose image is given."""
    pair = draw_pair("insert", L1, generator, held_out=True)
    named = set(range(len(pair.target.things))) - {pair.place}
    prompt = unnamed_caption(pair.target.story, generator, named=named)
    case = _case(pair, prompt, OBJECT, generator, size)
    return {
        "insert reference": replace(case, inputs=case.inputs | {REFERENCE_IMAGES: (_shown(pair, generator, size),)})
    }


def replaced_reference(generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """The video's one object becomes what an image shows; the caption has no noun."""
    pair = draw_pair("replace", L1, generator, held_out=True)
    case = _case(pair, unnamed_caption(pair.target.story, generator), OBJECT, generator, size)
    return {
        "replace reference": replace(case, inputs=case.inputs | {REFERENCE_IMAGES: (_shown(pair, generator, size),)})
    }


EDIT_TASKS = (
    Task(name="recolour", needs=NEEDS, stream=110, draw=partial(edited, "recolour"), pool="all edits"),
    Task(name="reshape", needs=NEEDS, stream=111, draw=partial(edited, "reshape"), pool="all edits"),
    Task(name="remove", needs=NEEDS, stream=112, draw=partial(edited, "remove"), level=PAIRED, pool="all edits"),
    Task(name="insert", needs=NEEDS, stream=113, draw=partial(edited, "insert"), level=PAIRED, pool="all edits"),
    Task(
        name="insert reference",
        needs=NEEDS | {REFERENCE_IMAGES},
        stream=114,
        draw=inserted_reference,
        level=PAIRED,
    ),
    Task(name="replace reference", needs=NEEDS | {REFERENCE_IMAGES}, stream=115, draw=replaced_reference),
)


def _shown(pair: Pair, generator: np.random.Generator, size: VideoSize) -> InputImage:
    """The object that shall come."""
    thing = pair.target.things[pair.place]
    return InputImage(pixels=portrait(thing, generator, height=size.height, width=size.width))


def _case(pair: Pair, prompt: str, asked_for: tuple[str, ...], generator: np.random.Generator, size: VideoSize) -> Case:
    # A box, for the outline of what shall come would tell its shape.
    changed = boxed(covered(pair, **asdict(size)))
    return Case(
        prompt=prompt,
        seed=seed_from(generator),
        target=pair.target,
        inputs=Inputs(
            {VIDEO: InputVideo(frames=rendered(pair.source, size)), MASK: Mask(values=changed.astype(np.uint8) * 255)}
        ),
        joint={"edit_right": asked_for},
    )
