"""Editing a video: what the mask shows white is made anew, and every other pixel stays as it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from kinoform.editing.boundary import boundary_differences
from kinoform.editing.colour import SAME, Affine, Moments, alike, match, moments
from kinoform.editing.edit_plan import EditPlan, Segment, plan_edit
from kinoform.editing.masks import composite, crossfaded, ring
from kinoform.editing.passes import Edited, Frames, LatentStore, MadeFrames
from kinoform.editing.report import SegmentReport, edit_report, mean_of
from kinoform.editing.segments import fade
from kinoform.editing.settings import EditSettings
from kinoform.pipelines.generate import Callback, Progress, report_progress, silent
from kinoform.pipelines.pipeline import Pipeline

RING = 4
"""Width in made pixels of the ring around what changes, in which the colours are compared."""

UNCHANGED = 2.0
"""Mean difference inside the mask, of 255, below which an edit has changed next to nothing."""


def edit(
    pipeline: Pipeline,
    video: object,
    prompt: str,
    *,
    seed: int,
    settings: EditSettings | None = None,
    on_progress: Callback | None = None,
    **changes: Any,
) -> Edited:
    """Edit a video as the prompt says, where the mask is white (>= 128), or everywhere without a mask.

    Beyond the mask grown and feathered the result is the source's, bit for bit. Videos longer than the model's are
    made in overlapping segments with the seeds `seed`, `seed` + 1, ...; larger ones around the mask, or as a whole in
    the size of the model. `changes` are inputs by name (`mask`, `reference_images`, `strength`, `source_prompt` and
    whatever else the model takes) and other arguments of `Pipeline.request`. `on_progress` is called with the
    progress over all segments and ends the work by returning False. Raises and warns as `plan_edit`; warns as well
    when next to nothing has changed.
    """
    return carry_out(plan_edit(pipeline, video, prompt, seed=seed, settings=settings, **changes), on_progress)


def carry_out(plan: EditPlan, on_progress: Callback | None = None, store: LatentStore | None = None) -> Edited:
    """Edit as planned; segments whose latents are in the store are not denoised again.

    Raises WeightsError, FitError, NonFiniteError and Interrupted as a call of the pipeline.
    """
    on_progress = on_progress or silent
    result, raw = plan.source.frames.copy(), plan.source.frames.copy()
    step, colours, squares, values = _counter(plan, on_progress), list[Affine](), 0.0, 0
    for number, segment in enumerate(plan.passes):
        frames = plan.frames(number, result, store, on_progress)
        matched, errors, compared = _compare(plan, segment, frames, step)
        _blend(plan, segment, frames, matched, result, raw, step)
        colours, squares, values = [*colours, matched], squares + errors, values + compared
    _, feather = plan.settings.edge(plan.source.size)
    differences = boundary_differences(plan.source.frames, result, plan.alpha, feather=feather, step=step)
    segments = tuple(
        SegmentReport(
            start=segment.span.start,
            stop=segment.span.stop,
            seed=plan.seed(number),
            width=segment.window.made[1],
            height=segment.window.made[0],
            colour_shift=matched.correction,
            boundary_delta_e=mean_of(differences[segment.span.start : segment.span.stop]),
        )
        for number, (segment, matched) in enumerate(zip(plan.passes, colours, strict=True))
    )
    report = edit_report(
        plan.source.frames, result, plan.alpha,
        pixels=plan.alpha.size, squares=squares, values=values, differences=differences, segments=segments,
    )  # fmt: skip
    if plan.warn_unchanged:
        _warn_unchanged(plan, result)
    return Edited(video=plan.result(result, report, task="edit"), raw=raw, alpha=plan.alpha, report=report)


def _counter(plan: EditPlan, on_progress: Callback) -> Callable[[], None]:
    """Return a function to call for each frame that is compared, blended, and reported on."""
    total = sum(2 * (segment.span.stop - segment.span.start) for segment in plan.passes) + len(plan.source.frames)
    steps = count(1)
    return lambda: report_progress(on_progress, Progress(stage="compose", done=next(steps), total=total))


def _compare(
    plan: EditPlan, segment: Segment, frames: MadeFrames, step: Callable[[], None]
) -> tuple[Affine, float, int]:
    """Return the map that matches the colours around the mask, and the sum and number of squared errors outside it."""
    span, window, size = segment.span, segment.window, plan.source.size
    rows, columns = window.inside(size)
    width = max(2, round(RING * window.scale))
    original, redrawn, squares, values = Moments(), Moments(), 0.0, 0
    for index, frame in zip(range(span.start, span.stop), frames, strict=False):
        step()
        alpha = plan.alpha[index, rows, columns]
        if alpha.min() > 0:
            continue
        source, made = plan.source.frames[index, rows, columns], window.given_back(frame, size)
        around, outside = ring(alpha[None], width)[0], alpha == 0
        around[around] = alike(source[around], made[around])
        original, redrawn = original + moments(source[around]), redrawn + moments(made[around])
        errors = np.rint(made[outside]) - source[outside]
        squares, values = squares + float((errors.astype(np.float64) ** 2).sum()), values + errors.size
    return match(original, redrawn) if plan.settings.match_colours else SAME, squares, values


def _blend(
    plan: EditPlan,
    segment: Segment,
    frames: MadeFrames,
    colours: Affine,
    result: Frames,
    raw: Frames,
    step: Callable[[], None],
) -> None:
    """Blend a segment into `result` and `raw`, fading over the frames that it shares with the segment before."""
    span, window, size = segment.span, segment.window, plan.source.size
    rows, columns = window.inside(size)
    weights = [*fade(span.shared), *[1.0] * (span.stop - span.start - span.shared)]
    for index, frame, weight in zip(range(span.start, span.stop), frames, weights, strict=False):
        step()
        made = window.given_back(frame, size)
        source, alpha = plan.source.frames[index, rows, columns], plan.alpha[index, rows, columns]
        blended = composite(source, colours(made), alpha)
        for whole, part in ((result, blended), (raw, np.rint(made).astype(np.uint8))):
            whole[index, rows, columns] = crossfaded(whole[index, rows, columns], part, float(weight))


def _warn_unchanged(plan: EditPlan, result: Frames) -> None:
    total, values = 0.0, 0
    for before, after, alpha in zip(plan.source.frames, result, plan.alpha, strict=True):
        inside = alpha > 0
        total += float(np.abs(after[inside].astype(np.float32) - before[inside]).sum())
        values += 3 * int(inside.sum())
    if total / values < UNCHANGED:
        warnings.warn(
            f"the edit changed next to nothing: {total / values:.1f} of 255 on the mean; describe what is new in more "
            "detail in the prompt, grow the mask, or raise the strength",
            stacklevel=4,
        )
