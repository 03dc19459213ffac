"""Films from pictures: one that begins with a picture, and one that leads from a picture to another."""

from __future__ import annotations

from typing import Any

from kinoform.conditions.inputs import Inputs
from kinoform.editing.worlds import tell_worlds
from kinoform.media.film import Film
from kinoform.media.material import Picture
from kinoform.media.values import picture_of
from kinoform.numbers import Whole
from kinoform.pipelines.pipeline import Pipeline


def animate(pipeline: Pipeline, picture: object, prompt: str, *, seed: Whole | None = None, **changes: Any) -> Film:
    """A film that begins with the picture, in its proportions; `changes` are as in a call of the pipeline.

    Raises UsageError before any weight is read for a model that takes no frames, naming those that do, and for a
    picture that cannot be read or is too narrow for a film.
    """
    return pipeline(prompt, image=_told(pipeline, picture), seed=seed, **changes)


def bridge(
    pipeline: Pipeline, first: object, last: object, prompt: str, *, seed: Whole | None = None, **changes: Any
) -> Film:
    """A film that begins with one picture, in its proportions, and ends with another. Raises as `animate`.

    Warns of a last picture of other proportions, of which the middle is taken.
    """
    return pipeline(prompt, image=_told(pipeline, first), last_image=last, seed=seed, **changes)


def _told(pipeline: Pipeline, first: object) -> Picture:
    """The first picture, read; warns where the model knows only a world that it is not of."""
    picture = picture_of(first)
    tell_worlds(pipeline.recipe, Inputs(frames={0: picture}))
    return picture
