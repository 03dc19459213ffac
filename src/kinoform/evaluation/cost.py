"""Operations that a video takes, as `kinoform plan` counts them."""

from __future__ import annotations

from dataclasses import dataclass

from kinoform.pipelines.fit import sizes_of, workload_of
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request
from kinoform.plan.video_plan import plan_video


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFlops:
    """Operations of one video as kinoform runs it, 2 per multiply-add; `total` includes those of the `transformer`."""

    total: int
    transformer: int


def video_flops(pipeline: Pipeline, asked: Request) -> VideoFlops | None:
    """Count the operations of the video that is asked for; None where a part of the model is not counted.

    The text is counted at the full length of a prompt.
    """
    machine = pipeline.machine
    plan = plan_video(sizes_of(pipeline.parts), workload_of(asked), dtype=machine.dtype, device=machine.device.type)
    if plan.uncounted:
        return None
    executed = {stage: flops.executed for stage, flops in plan.flops.items()}
    return VideoFlops(total=sum(executed.values()), transformer=executed["denoise"])
