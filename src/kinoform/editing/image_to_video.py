"""Videos from images: one that begins with an image, and one that leads from an image to another."""

from __future__ import annotations

from typing import Any

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import FRAMES
from kinoform.editing.passes import warn_unfamiliar_inputs
from kinoform.media.coerce import image_of
from kinoform.media.types import InputImage
from kinoform.media.video import Video
from kinoform.numbers import Whole
from kinoform.pipelines.pipeline import Pipeline


def animate(pipeline: Pipeline, image: object, prompt: str, *, seed: Whole | None = None, **changes: Any) -> Video:
    """Make a video that begins with the image, in its proportions; `changes` are as in a call of the pipeline.

    Raises UsageError, before any weight is read, for a model that takes no frames, naming models that do, and for an
    image that cannot be read or is too narrow for a video.
    """
    return pipeline(prompt, image=_first(pipeline, image), seed=seed, **changes)


def bridge(
    pipeline: Pipeline, first: object, last: object, prompt: str, *, seed: Whole | None = None, **changes: Any
) -> Video:
    """Make a video that begins with one image, in its proportions, and ends with another. Raises as `animate`.

    Warns of a last image of other proportions, which is cropped to its middle.
    """
    return pipeline(prompt, image=_first(pipeline, first), last_image=last, seed=seed, **changes)


def _first(pipeline: Pipeline, first: object) -> InputImage:
    """Read the first image, with a warning where the model knows only a world of other images."""
    image = image_of(first)
    warn_unfamiliar_inputs(pipeline.recipe, Inputs({FRAMES: {0: image}}))
    return image
