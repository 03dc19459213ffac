"""Plan of a longer video: the frames that the model is given, in which form, and the new frames of each pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from typing import Any, TypeAlias

import numpy as np

from kinoform import numbers
from kinoform.conditions import vace_inputs
from kinoform.conditions.coerce import split, to_inputs
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import readable
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, MASK, VIDEO
from kinoform.editing.passes import Frames, PassPlan, base_request, bytes_of, units_of, warn_unfamiliar
from kinoform.editing.segments import legal
from kinoform.editing.settings import ExtendSettings
from kinoform.editing.window import Window, whole
from kinoform.errors import UsageError
from kinoform.media.coerce import clip_of
from kinoform.media.resample import Times, times_from
from kinoform.media.types import InputImage, InputVideo, Sound
from kinoform.numbers import Whole
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request
from kinoform.recipe import Recipe

CONTEXT = 9
"""Default number of frames that the model is given: three latent frames of Wan's.

Models that make few frames at once are given half of those.
"""

MAX_NEW_FRAMES = 10_000

AsInputs: TypeAlias = Callable[[InputVideo, int, bool], Inputs]
"""Function that returns inputs asking for so many frames after given ones, or before them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExtendPlan(PassPlan):
    """Plan of new frames after a video, or before it.

    `passes` are the numbers of new frames of each pass, which continues from the `context` frames nearest to them.
    """

    settings: ExtendSettings
    passes: tuple[int, ...]
    context: int
    as_inputs: AsInputs
    window: Window

    @property
    def new_frames(self) -> int:
        """Return the number of new frames."""
        return sum(self.passes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return frames, height and width of the result."""
        return len(self.source.frames) + self.new_frames, *self.source.size

    @property
    def fps(self) -> float:
        """Return the mean frames per second of the result; the recipe's where the source does not say."""
        if self.times is not None:
            return float(len(self.times.begins) / self.times.seconds)
        return self.pipeline.recipe.fps if self.source.fps is None else self.source.fps

    @property
    def times(self) -> Times | None:
        """Return the times of the result's frames, where the source has them; new frames last as their context does."""
        times, new = self.source.times, self.new_frames
        if times is None:
            return None
        duration = _duration(times, self.context, self.settings.before)
        begins = [begin * times.tick for begin in times.begins]
        if self.settings.before:
            begins = [index * duration for index in range(new)] + [new * duration + begin for begin in begins]
        else:
            begins += [times.seconds + index * duration for index in range(new)]
        return times_from(begins, times.seconds + new * duration, times.tick)

    @property
    def sound(self) -> Sound | None:
        """Return the sound of the source, at its time in the result."""
        sound, new, times = self.source.sound, self.new_frames, self.times
        if sound is None or not self.settings.before:
            return sound
        begin = new / self.fps if times is None else times.begins[new] * times.tick
        return replace(sound, start=sound.start + float(begin))

    @property
    def beside(self) -> int:
        """Return the bytes that the source, the result and the model's output take beside the model."""
        size = self.source.size
        return bytes_of(len(self.source.frames), size, per_pixel=9) + bytes_of(self.new_frames, size, per_pixel=13)

    def nearest(self, frames: Frames) -> Frames:
        """Return the frames next to those that are to be made."""
        return frames[: self.context] if self.settings.before else frames[-self.context :]

    def joined(self, given: Frames, new: Frames) -> Frames:
        """Join given and new frames in the order of time."""
        return np.concatenate([new, given] if self.settings.before else [given, new])

    def request(self, number: int, video: Frames) -> Request:
        """Return the request of a pass, from the nearest frames of `video`; see `PassPlan.request`."""
        context = np.stack([self.window.seen(frame) for frame in self.nearest(video)])
        length = legal(len(context) + self.passes[number], units_of(self.pipeline))
        inputs = self.as_inputs(InputVideo(frames=context), length - len(context), self.settings.before)
        inputs = self.base.inputs | {VIDEO: None} | inputs
        return self._checked(number, (length, *self.window.made), inputs)


def as_frames(context: InputVideo, count: int, before: bool) -> Inputs:
    """Return inputs that give the context as images of known frames."""
    first = count if before else 0
    images = {first + index: InputImage(pixels=frame) for index, frame in enumerate(context.frames)}
    return Inputs({FRAMES: images, EXACT_SIZE: True})


def as_masked_video(context: InputVideo, count: int, before: bool) -> Inputs:
    """Return inputs that give the context in a video that is grey, and white in its mask, where it is to be made."""
    return vace_inputs.extend(context, before=count if before else 0, after=0 if before else count)


FORMS: tuple[tuple[frozenset[InputField[Any]], AsInputs], ...] = (
    (frozenset({FRAMES, EXACT_SIZE}), as_frames),
    (frozenset({VIDEO, MASK}), as_masked_video),
)
"""Inputs that a model must take, and the form of the context for them; the first that fits is used."""

CONTEXT_INPUTS = frozenset((FRAMES, EXACT_SIZE, VIDEO, MASK))
"""Inputs that give the context, so that the caller cannot give them."""


def plan_extend(
    pipeline: Pipeline,
    video: object,
    prompt: str,
    *,
    num_frames: Whole,
    seed: Whole,
    settings: ExtendSettings,
    **changes: object,
) -> ExtendPlan:
    """Plan the `extend` of the same arguments; a video shorter than the context is given as a whole.

    Raises UsageError for a video that cannot be read or is too short, a number out of range, and a model that takes
    neither known frames nor a video with a mask, naming those that do; FitError for a video that cannot fit.
    """
    source = clip_of(video, sound=True)
    fields = [item for item in readable(pipeline.recipe.conditioners) if item not in CONTEXT_INPUTS]
    values, changes = split(fields, changes)
    inputs = Inputs({VIDEO: source}) | to_inputs(fields, values)
    warn_unfamiliar(pipeline.recipe, source.name, source.size)
    pipeline, base = base_request(pipeline, prompt, seed, inputs, **changes)
    at_once, given = base.num_frames, settings.context
    if at_once == 1:
        raise UsageError(
            "this model makes one frame at a time, which cannot continue a video; ask for more frames",
            code="value_out_of_range",
        )
    num_frames = numbers.whole("num_frames", num_frames, 1, MAX_NEW_FRAMES)
    context = _context(at_once) if given is None else numbers.whole("context", given, 1, at_once - 1)
    # Fewer than 2 frames at the end of what is made fill no latent frame.
    _check_length(source, pipeline.parts.codec_spec.stride[0] if settings.before else 2)
    context = min(context, len(source.frames))
    new = at_once - context
    plan = ExtendPlan(
        pipeline=pipeline,
        base=base,
        source=source,
        settings=replace(settings, context=context),
        passes=tuple(min(new, num_frames - done) for done in range(0, num_frames, new)),
        context=context,
        as_inputs=_form(pipeline),
        window=whole(source.size, asked=(base.height, base.width), units=units_of(pipeline)),
    )
    plan.check()
    return plan


def new_fps(source: InputVideo, recipe: Recipe, context: int | None, before: bool) -> float:
    """Return the new frames per second."""
    if source.times is not None:
        return float(1 / _duration(source.times, context or _context(recipe.num_frames), before))
    return recipe.fps if source.fps is None else source.fps


def frames_of_one_pass(recipe: Recipe, num_frames: int, context: int | None) -> int:
    """Return the number of frames, at least 1, that one pass adds to a video of `num_frames` frames."""
    return max(1, recipe.num_frames - min(context or _context(recipe.num_frames), num_frames))


def _duration(times: Times, context: int, before: bool) -> Fraction:
    """Return the seconds of a new frame: the median of its context, in which a frame may be held for long."""
    return median(times.stays[:context] if before else times.stays[-context:])


def _context(at_once: int) -> int:
    """Return the default context of a model that makes so many frames at once."""
    return min(CONTEXT, (at_once + 1) // 2)


def _check_length(video: InputVideo, min_frames: int) -> None:
    if len(video.frames) < min_frames:
        raise UsageError(
            f"{video.name} is too short to continue: it has {len(video.frames)} frames; "
            f"give {min_frames} or more, or animate an image",
            code="video_too_short",
        )


def _form(pipeline: Pipeline) -> AsInputs:
    for needed, as_inputs in FORMS:
        if needed <= {*pipeline.inputs}:
            return as_inputs
    others = ", ".join([*pipeline.takers(FRAMES), *pipeline.takers(MASK)])
    raise UsageError(
        "this model takes neither known frames nor a video with a mask, so it cannot continue a video"
        + (f"; {others} would" if others else ""),
        code="input_not_taken",
    )
