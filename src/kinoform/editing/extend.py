"""Extending a video after its end or before its beginning: its frames stay bit for bit, and new ones continue it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float32

from kinoform.editing.boundary import delta_e
from kinoform.editing.colour import SAME, Affine, alike, match, moments
from kinoform.editing.extend_plan import ExtendPlan, plan_extend
from kinoform.editing.passes import Edited, Frames, LatentStore, MadeFrames
from kinoform.editing.report import SegmentReport, edit_report
from kinoform.editing.settings import ExtendSettings
from kinoform.numbers import Whole
from kinoform.pipelines.generate import Callback, silent
from kinoform.pipelines.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pass:
    """Frames of a pass: `new` is `raw` in the colours of the video; `redrawn` is the model's version of the context."""

    new: Frames = field(repr=False)
    raw: Frames = field(repr=False)
    redrawn: Frames = field(repr=False)
    report: SegmentReport


def extend(
    pipeline: Pipeline,
    video: object,
    prompt: str,
    *,
    num_frames: Whole,
    seed: Whole,
    before: bool = False,
    context: Whole | None = None,
    match_colours: bool = True,
    on_progress: Callback | None = None,
    **changes: Any,
) -> Edited:
    """Continue the video by `num_frames` behind it, or `before` it, in its own size and at its own frame rate.

    The model is given the nearest `context` frames (9, or half of those that it makes at once) and redraws them; by
    these the colours of the new frames are matched to the video. Where more are asked for there are several passes,
    each from the last frames of the one before, with the seeds `seed`, `seed` + 1, ... `changes` are inputs by name
    (such as `reference_images`) and other arguments of `Pipeline.request`, and `on_progress` is as in `edit`. The
    sound stays at its time.
    The report counts new frames as changed, and its boundaries lie between the frames on both sides of them: max(0, dE
    across - dE between neighbours in the context), means over all pixels.
    Raises as `plan_extend`, before any weight is read, and as a call of the pipeline.
    """
    settings = ExtendSettings(before=before, context=context, match_colours=match_colours)
    plan = plan_extend(pipeline, video, prompt, num_frames=num_frames, seed=seed, settings=settings, **changes)
    return carry_out(plan, on_progress)


def carry_out(plan: ExtendPlan, on_progress: Callback | None = None, store: LatentStore | None = None) -> Edited:
    """Extend as planned; passes whose latents are in the store are not denoised again.

    Raises WeightsError, FitError, NonFiniteError and Interrupted as a call of the pipeline.
    """
    source, passes = plan.source.frames, list[_Pass]()
    context = plan.nearest(source)
    for number in range(len(plan.passes)):
        passes.append(_make(plan, number, context, plan.frames(number, context, store, on_progress or silent)))
        context = plan.nearest(plan.joined(context, passes[-1].new))
    in_time = passes[::-1] if plan.settings.before else passes
    result = plan.joined(source, np.concatenate([item.new for item in in_time]))
    redrawn = source.copy()
    plan.nearest(redrawn)[:] = passes[0].redrawn
    raw = plan.joined(redrawn, np.concatenate([item.raw for item in in_time]))
    kept = slice(plan.new_frames, None) if plan.settings.before else slice(0, len(source))
    new = np.ones(len(result), np.float32)
    new[kept] = 0
    alpha = np.broadcast_to(new[:, None, None], result.shape[:3])
    errors = plan.nearest(source).astype(np.float64) - passes[0].redrawn
    segments = tuple(item.report for item in passes)
    report = edit_report(
        source, result[kept], alpha[kept],
        pixels=alpha.size, squares=float((errors**2).sum()), values=errors.size,
        differences=[segment.boundary_delta_e for segment in segments], segments=segments,
    )  # fmt: skip
    video = plan.result(result, report, task="extend", num_frames=len(result))
    return Edited(video=video, raw=raw, alpha=alpha, report=report)


def _make(plan: ExtendPlan, number: int, context: Frames, frames: MadeFrames) -> _Pass:
    """Bring the frames of a pass into the size and the colours of the video."""
    before, count, done = plan.settings.before, plan.passes[number], sum(plan.passes[:number])
    edge = len(frames) - len(context) if before else len(context)
    redrawn, raw = (
        np.stack([plan.window.given_back(frame, plan.source.size) for frame in part])
        for part in (
            (frames[edge:], frames[edge - count : edge]) if before else (frames[:edge], frames[edge : edge + count])
        )
    )
    colours = _colours(context, redrawn) if plan.settings.match_colours else SAME
    new = _rounded(colours(raw))
    start = plan.new_frames - done - count if before else len(plan.source.frames) + done
    report = SegmentReport(
        start=start, stop=start + count, seed=plan.seed(number), width=plan.window.made[1], height=plan.window.made[0],
        colour_shift=colours.correction,
        boundary_delta_e=_boundary(context[::-1], new[::-1]) if before else _boundary(context, new),
    )  # fmt: skip
    return _Pass(new=new, raw=_rounded(raw), redrawn=_rounded(redrawn), report=report)


def _colours(context: Frames, redrawn: Float32[np.ndarray, "_ height width 3"]) -> Affine:
    original, made = context.reshape(-1, 3), redrawn.reshape(-1, 3)
    same = alike(original, made)
    return match(moments(original[same]), moments(made[same]))


def _boundary(context: Frames, new: Frames) -> float:
    """Return how much more colours change from the context to the new frames than between two frames of the context."""
    changes = [_change(one, other) for one, other in pairwise(context)]
    return max(0.0, _change(context[-1], new[0]) - sum(changes) / max(1, len(changes)))


def _change(one: np.ndarray, other: np.ndarray) -> float:
    return float(delta_e(one.reshape(-1, 3), other.reshape(-1, 3)).mean())


def _rounded(values: Float32[np.ndarray, "f height width 3"]) -> Frames:
    return np.rint(values).astype(np.uint8)
