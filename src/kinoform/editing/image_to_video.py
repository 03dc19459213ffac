"""Videos from images: one that begins with an image, and one that leads from an image to another."""

from __future__ import annotations

from typing import Any

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import FRAMES
from kinoform.editing.worlds import tell_worlds
from kinoform.media.coerce import image_of
from kinoform.media.types import InputImage
from kinoform.media.video import Video
from kinoform.numbers import Whole
from kinoform.pipelines.pipeline import Pipeline


def animate(pipeline: Pipeline, image: object, prompt: str, *, seed: Whole | None = None, **changes: Any) -> Video:
    """Make a video that begins with the image, in its proportions; `changes` are as in a call of the pipeline.

    Raises UsageError before any weight is read for a model that takes no frames, naming those that do, and for an
    image that cannot be read or is too narrow for a video.
    """
    return pipeline(prompt, image=_told(pipeline, image), seed=seed, **changes)


def bridge(
    pipeline: Pipeline, first: object, last: object, prompt: str, *, seed: Whole | None = None, **changes: Any
) -> Video:
    """Make a video that begins with one image, in its proportions, and ends with another. Raises as `animate`.

    Warns of a last image of other proportions, of which the middle is taken.
    """
    return pipeline(prompt, image=_told(pipeline, first), last_image=last, seed=seed, **changes)


def _told(pipeline: Pipeline, first: object) -> InputImage:
    """The first image, read; warns where the model knows only a world that it is not of."""
    image = image_of(first)
    tell_worlds(pipeline.recipe, Inputs({FRAMES: {0: image}}))
    return image
