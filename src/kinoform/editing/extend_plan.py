"""Plans how a video is continued: which of its frames a model is handed, how, and what each pass makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8

from kinoform import numbers
from kinoform.conditions import vace_inputs as edits
from kinoform.conditions.coerce import split, to_inputs
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import Units, readable
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, MASK, VIDEO
from kinoform.editing.edit_plan import held
from kinoform.editing.passes import identity
from kinoform.editing.segments import legal
from kinoform.editing.window import Window, whole
from kinoform.editing.worlds import tell_world
from kinoform.errors import UsageError
from kinoform.media.coerce import clip_of
from kinoform.media.resample import Times, times_from
from kinoform.media.types import InputImage, InputVideo, Sound
from kinoform.models.codec import check_size
from kinoform.numbers import Whole
from kinoform.pipelines.fit import check_fit
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request, request
from kinoform.recipe import Recipe

CONTEXT = 9
"""Frames of the video that are handed to the model, where nobody says: three latent frames of Wan's.

Models that make few frames at once are handed half of them.
"""

MOST_FRAMES = 10_000

Frames = UInt8[np.ndarray, "_ height width 3"]
Hand: TypeAlias = Callable[[InputVideo, int, bool], Inputs]
"""Inputs that ask for so many frames after known ones, or before them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Continuation:
    """Plan of new frames after a video, or `before` it: everything but the frames.

    `asked` is the request as it was handed over, with the whole `source` and the most frames that are made at once;
    `portions` are the new frames of each pass, which goes on from the `context` frames nearest to them.
    """

    pipeline: Pipeline
    asked: Request
    source: InputVideo
    hand: Hand
    window: Window
    before: bool
    context: int
    portions: tuple[int, ...]
    match_colours: bool

    @property
    def fps(self) -> float:
        """Frames per second of the video that is made: the source's, or the recipe's where the source does not say."""
        if self.times is not None:
            return float(len(self.times.begins) / self.times.seconds)
        return self.pipeline.recipe.fps if self.source.fps is None else self.source.fps

    @property
    def times(self) -> Times | None:
        """Times of the video that is made, where the source has such; new frames stay as those that they go on from."""
        own, added = self.source.times, sum(self.portions)
        if own is None:
            return None
        stay = _stay(own, self.context, self.before)
        if self.before:
            begins = [place * stay for place in range(added)]
            begins += [added * stay + begin * own.tick for begin in own.begins]
        else:
            begins = [begin * own.tick for begin in own.begins]
            begins += [own.seconds + place * stay for place in range(added)]
        return times_from(begins, own.seconds + added * stay, own.tick)

    @property
    def sound(self) -> Sound | None:
        """The sound of the source, at its time."""
        own, added = self.source.sound, sum(self.portions)
        if own is None or not self.before:
            return own
        times = self.times
        begins = added / self.fps if times is None else times.begins[added] * times.tick
        return replace(own, start=own.start + float(begins))

    @property
    def passes(self) -> int:
        """The number of passes: of videos that the model makes."""
        return len(self.portions)

    @property
    def beside(self) -> int:
        """Bytes that the video takes beside the model: as it was, as it becomes, and what the model made."""
        size = self.source.size
        return held(len(self.source.frames), size, per_pixel=9) + held(sum(self.portions), size, per_pixel=13)

    def identity(self) -> str:
        """A hash of all that decides what the model makes."""
        own = {"before": self.before, "context": self.context, "match_colours": self.match_colours}
        return identity(self.pipeline.params(self.asked), portions=self.portions, **own)

    def seed(self, number: int) -> int:
        return self.asked.seed + number

    def nearest(self, frames: Frames) -> Frames:
        """The frames next to those that are to be made."""
        return frames[: self.context] if self.before else frames[-self.context :]

    def joined(self, known: Frames, new: Frames) -> Frames:
        """Join known and new frames in the order of time."""
        return np.concatenate([new, known] if self.before else [known, new])

    def request(self, number: int, known: Frames) -> Request:
        """Return the request of a pass, from the known frames nearest to it.

        Raises UsageError for what the model does not take, and FitError for what cannot fit.
        """
        (height, width), parts, machine = self.window.made, self.pipeline.parts, self.pipeline.machine
        units = Units(stride=parts.codec_spec.stride, patch=parts.patch)
        length = legal(len(known) + self.portions[number], units)
        seen = InputVideo(frames=np.stack([self.window.seen(frame) for frame in known]))
        inputs = self.hand(seen, length - len(known), self.before)
        asked = replace(
            self.asked, seed=self.seed(number), num_frames=length, height=height, width=width,
            inputs=self.asked.inputs | {VIDEO: None} | inputs,
        )  # fmt: skip
        asked = self.pipeline.sized(asked)
        check_fit(asked, parts, machine.dtype, machine.device, beside=self.beside)
        return asked


def by_frames(known: InputVideo, count: int, before: bool) -> Inputs:
    """Hand frames over as images of known frames."""
    first = count if before else 0
    images = {first + place: InputImage(pixels=frame) for place, frame in enumerate(known.frames)}
    return Inputs({FRAMES: images, EXACT_SIZE: True})


def by_mask(known: InputVideo, count: int, before: bool) -> Inputs:
    """Hand frames over as a video that is grey, and white in its mask, where it is to be made."""
    return edits.extend(known, before=count if before else 0, after=0 if before else count)


WAYS: tuple[tuple[frozenset[InputField[Any]], Hand], ...] = (
    (frozenset({FRAMES, EXACT_SIZE}), by_frames),
    (frozenset({VIDEO, MASK}), by_mask),
)
"""Inputs that a model must take, and how frames are handed over with them; the first that fits is used."""

KNOWN = frozenset((FRAMES, EXACT_SIZE, VIDEO, MASK))
"""Inputs that hand over the known frames, so that the caller cannot give them."""


def plan_extend(
    pipeline: Pipeline,
    video: object,
    prompt: str,
    *,
    num_frames: Whole,
    seed: Whole,
    before: bool = False,
    context: Whole | None = None,
    match_colours: bool = True,
    **changes: object,
) -> Continuation:
    """Plan what `extend` of the same arguments will do; of a video shorter than `context` all frames are handed over.

    Raises UsageError for a video that cannot be read or is too short, a number out of range, and a model that takes
    neither known frames nor a video with a mask, naming those that do; FitError for what cannot fit.
    """
    source = clip_of(video, sound=True)
    fields = [item for item in readable(pipeline.recipe.conditioners) if item not in KNOWN]
    values, changes = split(fields, changes)
    given = Inputs({VIDEO: source}) | to_inputs(fields, values)
    tell_world(pipeline.recipe, source.name, source.size)
    # A rewritten prompt is the same for all passes.
    prompt, pipeline = pipeline.extend(prompt) if pipeline.extend else prompt, replace(pipeline, extend=None)
    asked = request(pipeline.recipe, prompt, seed, inputs=given, **changes)
    codec, patch = pipeline.parts.codec_spec, pipeline.parts.patch
    check_size(codec, patch, asked.num_frames, asked.height, asked.width)
    context = _context(asked.num_frames) if context is None else context
    num_frames, context = _checked_numbers(num_frames, context, asked.num_frames)
    # Of fewer frames before their end, no latent frame is wholly known.
    _check_length(source, codec.stride[0] if before else 2)
    held = min(context, len(source.frames))
    plan = Continuation(
        pipeline=pipeline, asked=asked, source=source, hand=_way(pipeline), before=before, context=held,
        window=whole(
            source.size, asked=(asked.height, asked.width), units=Units(stride=codec.stride, patch=patch)
        ),
        portions=tuple(_portions(num_frames, asked.num_frames - held)), match_colours=match_colours,
    )  # fmt: skip
    plan.request(0, plan.nearest(source.frames))  # the others are no longer, and differ in pixels and seeds
    replace(asked, seed=plan.seed(len(plan.portions) - 1))
    return plan


def pace(source: InputVideo, recipe: Recipe, context: int | None, before: bool) -> float:
    """New frames per second."""
    if source.times is not None:
        return float(1 / _stay(source.times, _context(recipe.num_frames) if context is None else context, before))
    return recipe.fps if source.fps is None else source.fps


def most_new(recipe: Recipe, there: int, context: int | None) -> int:
    """Count the frames that one pass adds to a video of `there` frames, at least 1."""
    known = _context(recipe.num_frames) if context is None else context
    return max(1, recipe.num_frames - min(known, there))


def _stay(times: Times, context: int, before: bool) -> Fraction:
    """Seconds that a new frame stays: the median of those that it goes on from, among them perhaps a still."""
    return median(times.stays[:context] if before else times.stays[-context:])


def _context(made: int) -> int:
    """Count the known ones of the frames that are made at once, where nobody says."""
    return min(CONTEXT, (made + 1) // 2)


def _checked_numbers(num_frames: Whole, context: Whole, most: int) -> tuple[int, int]:
    if most == 1:
        raise UsageError(
            "this model makes one frame at a time, which cannot go on from others; ask for more",
            code="value_out_of_range",
        )
    return numbers.whole("num_frames", num_frames, 1, MOST_FRAMES), numbers.whole("context", context, 1, most - 1)


def _check_length(video: InputVideo, least: int) -> None:
    there = len(video.frames)
    if there < least:
        raise UsageError(
            f"{video.name} is too short to go on from: it has {there} frames; "
            f"give {least} or more, or animate an image",
            code="video_too_short",
        )


def _way(pipeline: Pipeline) -> Hand:
    for needs, hand in WAYS:
        if needs <= {*pipeline.inputs}:
            return hand
    others = ", ".join([*pipeline.takers(FRAMES), *pipeline.takers(MASK)])
    raise UsageError(
        "this model takes neither known frames nor a video with a mask, so it cannot go on from a video"
        + (f"; {others} would" if others else ""),
        code="input_not_taken",
    )


def _portions(num_frames: int, most: int) -> Iterator[int]:
    for done in range(0, num_frames, most):
        yield min(most, num_frames - done)
