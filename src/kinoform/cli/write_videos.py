"""Videos are made one after the other, each saved before the next begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kinoform.cli import console
from kinoform.cli.latents import latents_kept
from kinoform.cli.output import Output, save
from kinoform.cli.plan_report import report
from kinoform.cli.progress import bars
from kinoform.pipelines.fit import sizes_of, workload_of
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request
from kinoform.plan.video_plan import plan_video
from kinoform.recipes.load import ADAPTERS, EMBEDDED


def make(pipeline: Pipeline, asked: list[Request], names: list[str], how: Output, again: Sequence[str]) -> None:
    """Make and save all videos; those that were saved are told, whatever happens then.

    `again` are the words that `kinoform decode` needs besides the file of latents that is kept.
    """
    params = [pipeline.params(each) for each in asked]
    words = [*again, *([] if how.metadata else ["--no-metadata"]), *(["--contact-sheet"] if how.sheet else [])]
    wishes = {"upscale": how.upscale, "codec": how.codec, "crf": how.crf}
    waiting: list[Mapping[str, object]] = []  # until the bars are gone, among which a line would be lost
    try:
        with bars(len(asked)) as tell:
            latents_of_all = pipeline.latents(asked, tell)
            for each, name, about, latents in zip(asked, names, params, latents_of_all, strict=True):
                with latents_kept(latents, about | wishes, name, words, force=how.force):
                    waiting.append(save(pipeline.video(each, latents, tell), name, how))
                if console.streams():
                    _tell(waiting.pop(), how)
    finally:
        for told in waiting:
            _tell(told, how)


def rehearse(
    model: str,
    pipeline: Pipeline,
    asked: list[Request],
    names: list[str],
    how: Output,
    *,
    passes: int = 1,
    beside: int = 0,
) -> None:
    """Tell which videos would be made, and the plan of the first, which is that of all.

    For an edit it is that of the first of its `passes`; `beside` it, its video takes so many bytes on the host.
    """
    sizes, machine = sizes_of(pipeline.parts, kept=model in {*EMBEDDED, *ADAPTERS}), pipeline.machine
    workload = replace(workload_of(asked[0]), others=len(asked) > 1)
    plan = plan_video(sizes, workload, dtype=machine.dtype, device=machine.device.type)
    whole = passes * sum(flops.executed for flops in plan.flops.values())
    edit = [
        f"this is the first of {passes} passes, all of one size at most: about {whole / 1e12:.3g} TFLOP in all",
        f"beside it the video itself takes {beside / 1e9:.2f} GB of the machine's memory",
    ]
    lines = [report(model, plan), "", *(edit if beside else []), *(f"would write {name}" for name in names)]
    told = {"outputs": names, "plan": plan.as_json()} | ({"passes": passes, "beside": beside} if beside else {})
    console.result("\n".join(lines), told, as_json=how.as_json)


def _tell(told: Mapping[str, object], how: Output) -> None:
    console.result(str(told["output"]), told, as_json=how.as_json)
