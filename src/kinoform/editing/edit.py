"""Editing a video: what the mask shows white is made anew, and every other pixel stays as it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kinoform.editing.colour import SAME, Affine, Moments, alike, match, moments
from kinoform.editing.composite import composite, crossfaded
from kinoform.editing.edit_plan import EditPlan, Segment, plan_edit
from kinoform.editing.masks import Alpha, ring
from kinoform.editing.passes import UNKEPT, Passes, latents_of
from kinoform.editing.report import (
    EditReport,
    SegmentReport,
    decibels,
    mean_colour,
    mean_of,
    outside_equal,
    seams,
    worst_of,
)
from kinoform.editing.segments import fade
from kinoform.editing.settings import EditSettings
from kinoform.errors import Interrupted
from kinoform.media.video import Video
from kinoform.pipelines.generate import Callback, Progress
from kinoform.pipelines.pipeline import Pipeline

RING = 4
"""Made pixels around what changes, of which the colours are compared."""

UNCHANGED = 2.0
"""A mean difference inside the mask, of 255, below which an edit has done next to nothing."""

Frames = UInt8[np.ndarray, "f height width 3"]
Drawn = UInt8[np.ndarray, "n tall wide 3"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edited:
    """`video` has the size, times, length and sound of the source, and the report in its params under "edit".

    `raw` is what the model made, in the pixels of the source and before anything was laid over; the source where the
    model was not asked. `alpha` is how much of it counted.
    """

    video: Video
    raw: Frames = field(repr=False)
    alpha: Alpha = field(repr=False)
    report: EditReport


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """Facts of a segment: the colours' map, and the squared errors outside the mask before it."""

    segment: Segment
    colours: Affine
    squares: float
    count: int


def edit(
    pipeline: Pipeline,
    video: object,
    prompt: str,
    *,
    seed: int,
    settings: EditSettings | None = None,
    tell: Callback | None = None,
    **changes: Any,
) -> Edited:
    """Edit a video as the prompt says, where the mask is white (>= 128), or everywhere without a mask.

    Beyond the mask grown and feathered the result is the source's, bit for bit. Videos longer than the model's are
    made in overlapping segments with the seeds `seed`, `seed` + 1, ...; larger ones around the mask, or as a whole in
    the size of the model. `changes` are inputs by name (`mask`, `reference_images`, `strength`, `source_prompt` and
    whatever else the model takes) and other arguments of `Pipeline.request`. `tell` hears the
    progress over all segments and ends the work by returning False. Raises and warns as `plan_edit`; warns as well
    when next to nothing has changed.
    """
    return carry_out(plan_edit(pipeline, video, prompt, seed=seed, settings=settings, **changes), tell)


def carry_out(plan: EditPlan, tell: Callback | None = None, passes: Passes = UNKEPT) -> Edited:
    """Edit as planned; segments that are kept in `passes` are not made again.

    Raises WeightsError, FitError, NonFiniteError and Interrupted as a call of the pipeline.
    """
    result, raw = plan.source.frames.copy(), plan.source.frames.copy()
    made, step = [], _counted(plan, tell or _silent)
    for segment in plan.segments:
        frames = _frames_of(plan, segment, result, tell or _silent, passes)
        colours, squares, values = _compared(plan, segment, frames, step)
        _lay(plan, segment, frames, colours, result, raw, step)
        made.append(_Made(segment=segment, colours=colours, squares=squares, count=values))
    report = _report(plan, result, made, step)
    _tell_change(plan, result)
    video = Video(
        frames=result, fps=plan.fps, params=_params(plan, report), times=plan.source.times, sound=plan.source.sound
    )
    return Edited(video=video, raw=raw, alpha=plan.alpha, report=report)


def _frames_of(plan: EditPlan, segment: Segment, result: Frames, tell: Callback, passes: Passes) -> Drawn:
    """Make a segment with the model, in its own size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plan has said them
        asked = plan.request(segment, result)

    def heard(now: Progress) -> bool | None:
        done, total = segment.number * now.total + now.done, len(plan.segments) * now.total
        return tell(replace(now, done=done, total=total))

    latents = latents_of(plan.pipeline, asked, segment.number, passes, heard)
    return plan.pipeline.frames(latents, heard)


def _counted(plan: EditPlan, tell: Callback) -> Callable[[], None]:
    """Called for each frame that is compared, laid over the video, and reported of; tells of it."""
    total = sum(2 * (each.span.stop - each.span.start) for each in plan.segments) + len(plan.source.frames)
    steps = count(1)

    def step() -> None:
        if tell(Progress(stage="compose", done=next(steps), total=total)) is False:
            raise Interrupted("the work was ended by its caller", code="interrupted")

    return step


def _compared(plan: EditPlan, segment: Segment, frames: Drawn, step: Callable[[], None]) -> tuple[Affine, float, int]:
    """Measure how the colours around the mask are to change; the squared errors outside it, and of how many values."""
    span, window, video = segment.span, segment.window, plan.source.size
    rows, columns = window.inside(video)
    width = max(2, round(RING * window.scale))
    there, redrawn, squares, values = Moments(), Moments(), 0.0, 0
    for place, frame in zip(range(span.start, span.stop), frames, strict=False):
        step()
        rim = plan.alpha[place, rows, columns]
        if rim.min() > 0:
            continue
        source, large = plan.source.frames[place, rows, columns], window.given_back(frame, video)
        around, outside = ring(rim[None], width)[0], rim == 0
        around[around] = alike(source[around], large[around])
        there, redrawn = there + moments(source[around]), redrawn + moments(large[around])
        errors = np.rint(large[outside]) - source[outside]
        squares, values = squares + float((errors.astype(np.float64) ** 2).sum()), values + errors.size
    return match(there, redrawn) if plan.settings.match_colours else SAME, squares, values


def _lay(
    plan: EditPlan,
    segment: Segment,
    frames: Drawn,
    colours: Affine,
    result: Frames,
    raw: Frames,
    step: Callable[[], None],
) -> None:
    """Into `result` and `raw`, faded over the frames that the segment shares with the one before."""
    span, window, video = segment.span, segment.window, plan.source.size
    rows, columns = window.inside(video)
    weights = [*fade(span.shared), *[1.0] * (span.stop - span.start - span.shared)]
    for place, frame, weight in zip(range(span.start, span.stop), frames, weights, strict=False):
        step()
        large = window.given_back(frame, video)
        source, rim = plan.source.frames[place, rows, columns], plan.alpha[place, rows, columns]
        laid = composite(source, colours(large), rim)
        for whole, part in ((result, laid), (raw, np.rint(large).astype(np.uint8))):
            whole[place, rows, columns] = crossfaded(whole[place, rows, columns], part, float(weight))


def _report(plan: EditPlan, result: Frames, made: Sequence[_Made], step: Callable[[], None]) -> EditReport:
    source, alpha = plan.source.frames, plan.alpha
    equal, outside = outside_equal(source, result, alpha)
    borders = seams(source, result, alpha, feather=plan.rim[1], step=step)
    return EditReport(
        outside_equal=equal,
        outside_pixels=outside,
        raw_psnr_outside_db=decibels(sum(each.squares for each in made), sum(each.count for each in made)),
        seam_delta_e=mean_of(borders),
        seam_delta_e_worst=worst_of(borders),
        colour_shift=mean_colour([each.colours.correction for each in made]),
        changed_share=1 - outside / alpha.size,
        segments=tuple(
            SegmentReport(
                start=each.segment.span.start,
                stop=each.segment.span.stop,
                seed=plan.seed(each.segment),
                width=each.segment.window.made[1],
                height=each.segment.window.made[0],
                colour_shift=each.colours.correction,
                seam_delta_e=mean_of(borders[each.segment.span.start : each.segment.span.stop]),
            )
            for each in made
        ),
    )


def _tell_change(plan: EditPlan, result: Frames) -> None:
    total, values = 0.0, 0
    for before, after, rim in zip(plan.source.frames, result, plan.alpha, strict=True):
        inside = rim > 0
        total += float(np.abs(after[inside].astype(np.float32) - before[inside]).sum())
        values += 3 * int(inside.sum())
    if total / values < UNCHANGED:
        warnings.warn(
            f"the edit changed next to nothing: {total / values:.1f} of 255 on the mean; say more of what is new in "
            "the prompt, grow the mask, or raise the strength",
            stacklevel=4,
        )


def _params(plan: EditPlan, report: EditReport) -> dict[str, object]:
    """Return the parameters of the pipeline for this edit; the size is the largest that was made at once."""
    grow, feather = plan.rim
    settings = {**asdict(plan.settings), "grow": grow, "feather": feather}
    told = {"task": "edit", "fps": plan.fps, "edit": {"settings": settings, **report.as_json()}}
    return {**plan.pipeline.params(plan.asked), **told}


def _silent(progress: Progress) -> None:
    return None
