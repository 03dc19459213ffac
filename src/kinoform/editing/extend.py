"""A video made longer, after its end or before its beginning: what is there stays bit for bit, what is new goes on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float32

from kinoform.editing.colour import SAME, Affine, alike, match, moments
from kinoform.editing.edit import Edited
from kinoform.editing.extend_plan import Continuation, Frames, plan_extend
from kinoform.editing.passes import UNKEPT, Passes, latents_of
from kinoform.editing.report import (
    EditReport,
    SegmentReport,
    decibels,
    mean_colour,
    mean_of,
    outside_equal,
    worst_of,
)
from kinoform.editing.seam import delta_e
from kinoform.media.video import Video
from kinoform.numbers import Whole
from kinoform.pipelines.generate import Callback, Progress
from kinoform.pipelines.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pass:
    """`new` is `raw` in the colours of the video; `redrawn` is what the model made of the frames that it knew."""

    new: Frames = field(repr=False)
    raw: Frames = field(repr=False)
    redrawn: Frames = field(repr=False)
    colours: Affine
    seam: float


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
    tell: Callback | None = None,
    **changes: Any,
) -> Edited:
    """Continue the video by `num_frames` behind it, or `before` it, in its own size and at its own frame rate.

    The model is handed the nearest `context` frames (9, or half of those that it makes at once) and redraws them; by
    these the colours of what is new are matched to the video. Where more are asked for there are several passes, each
    from the last frames of the one before, with the seeds `seed`, `seed` + 1, ... `changes` are inputs by name (such
    as `reference_images`) and other arguments of `Pipeline.request`, and `tell` is as in `edit`. The sound is heard at
    its time.
    The report counts new frames as changed, and its seams lie between the frames on both sides of them: max(0, dE
    across - dE between neighbours in the context), means over all pixels.
    Raises as `plan_extend`, before any weight is read, and as a call of the pipeline.
    """
    plan = plan_extend(
        pipeline, video, prompt, num_frames=num_frames, seed=seed, before=before, context=context,
        match_colours=match_colours, **changes,
    )  # fmt: skip
    return carry_out(plan, tell)


def carry_out(plan: Continuation, tell: Callback | None = None, passes: Passes = UNKEPT) -> Edited:
    """Extend as planned; what is kept in `passes` is not made again.

    Raises WeightsError, FitError, NonFiniteError and Interrupted as a call of the pipeline.
    """
    known, done = plan.nearest(plan.source.frames), list[_Pass]()
    for number in range(len(plan.portions)):
        made = _made(plan, number, known, tell or _silent, passes)
        known = plan.nearest(plan.joined(known, made.new))
        done.append(made)
    return _edited(plan, done)


def _made(plan: Continuation, number: int, known: Frames, tell: Callback, kept: Passes) -> _Pass:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plan has said them
        asked, passes = plan.request(number, known), len(plan.portions)

    def heard(now: Progress) -> bool | None:
        return tell(replace(now, done=number * now.total + now.done, total=passes * now.total))

    frames = plan.pipeline.frames(latents_of(plan.pipeline, asked, number, kept, heard), heard)
    if plan.before:
        edge = len(frames) - len(known)
        redrawn, raw = frames[edge:], frames[edge - plan.portions[number] : edge]
    else:
        edge = len(known)
        redrawn, raw = frames[:edge], frames[edge : edge + plan.portions[number]]
    redrawn, raw = _given_back(plan, redrawn), _given_back(plan, raw)
    colours = _colours(known, redrawn) if plan.match_colours else SAME
    new = _rounded(colours(raw))
    seam = _seam(known[::-1], new[::-1]) if plan.before else _seam(known, new)
    return _Pass(new=new, raw=_rounded(raw), redrawn=_rounded(redrawn), colours=colours, seam=seam)


def _colours(known: Frames, redrawn: Float32[np.ndarray, "_ height width 3"]) -> Affine:
    true, made = known.reshape(-1, 3), redrawn.reshape(-1, 3)
    same = alike(true, made)
    return match(moments(true[same]), moments(made[same]))


def _given_back(plan: Continuation, frames: Frames) -> Float32[np.ndarray, "f rows columns 3"]:
    return np.stack([plan.window.given_back(frame, plan.source.size) for frame in frames])


def _seam(known: Frames, new: Frames) -> float:
    """Measure how much more colours change from the known frames to the new than between two known ones."""
    own = [_change(one, other) for one, other in pairwise(known)]
    return max(0.0, _change(known[-1], new[0]) - sum(own) / max(1, len(own)))


def _change(one: np.ndarray, other: np.ndarray) -> float:
    return float(delta_e(one.reshape(-1, 3), other.reshape(-1, 3)).mean())


def _edited(plan: Continuation, passes: Sequence[_Pass]) -> Edited:
    source, in_time = plan.source.frames, passes[::-1] if plan.before else passes
    result = plan.joined(source, np.concatenate([each.new for each in in_time]))
    shown = source.copy()
    plan.nearest(shown)[:] = passes[0].redrawn
    raw = plan.joined(shown, np.concatenate([each.raw for each in in_time]))
    added = len(result) - len(source)
    kept = slice(added, None) if plan.before else slice(0, len(source))
    new = np.ones(len(result), np.float32)
    new[kept] = 0
    report = _report(plan, passes, result[kept])
    return Edited(
        video=Video(
            frames=result, fps=plan.fps, params=_params(plan, report, len(result)), times=plan.times, sound=plan.sound
        ),
        raw=raw,
        alpha=np.broadcast_to(new[:, None, None], result.shape[:3]),
        report=report,
    )


def _report(plan: Continuation, passes: Sequence[_Pass], kept: Frames) -> EditReport:
    source, added = plan.source.frames, sum(plan.portions)
    equal, outside = outside_equal(source, kept, np.broadcast_to(np.float32(0), source.shape[:3]))
    errors = plan.nearest(source).astype(np.float64) - passes[0].redrawn
    seams = [each.seam for each in passes]
    return EditReport(
        outside_equal=equal,
        outside_pixels=outside,
        raw_psnr_outside_db=decibels(float((errors**2).sum()), errors.size),
        seam_delta_e=mean_of(seams),
        seam_delta_e_worst=worst_of(seams),
        colour_shift=mean_colour([each.colours.correction for each in passes]),
        changed_share=added / (added + len(source)),
        segments=tuple(_segments(plan, passes)),
    )


def _segments(plan: Continuation, passes: Sequence[_Pass]) -> Iterator[SegmentReport]:
    """The new frames of each pass, by their place in the result."""
    (height, width), done = plan.window.made, 0
    for number, (made, count) in enumerate(zip(passes, plan.portions, strict=True)):
        start = sum(plan.portions) - done - count if plan.before else len(plan.source.frames) + done
        yield SegmentReport(
            start=start, stop=start + count, seed=plan.seed(number), width=width, height=height,
            colour_shift=made.colours.correction, seam_delta_e=made.seam,
        )  # fmt: skip
        done += count


def _params(plan: Continuation, report: EditReport, num_frames: int) -> dict[str, object]:
    """Return the parameters of the pipeline for this video; the size is the one that was made."""
    settings = {"before": plan.before, "context": plan.context, "match_colours": plan.match_colours}
    told = {
        "task": "extend", "fps": plan.fps, "num_frames": num_frames,
        "edit": {"settings": settings, **report.as_json()},
    }  # fmt: skip
    return {**plan.pipeline.params(plan.asked), **told}


def _rounded(values: Float32[np.ndarray, "f height width 3"]) -> Frames:
    return np.rint(values).astype(np.uint8)


def _silent(progress: Progress) -> None:
    return None
