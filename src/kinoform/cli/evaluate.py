"""`kinoform evaluate`: how often videos show what their prompts, or their inputs, say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli.evaluate_report import ComparedModel, Judging, PageFile, beside, contenders
from kinoform.cli.option_groups import MachineOptions, ModelOptions, OutputOptions, VideoOptions
from kinoform.cli.options import OUTPUT, VIDEO, command, model_names, option, varied
from kinoform.cli.progress import stages
from kinoform.errors import UsageError

if TYPE_CHECKING:
    from kinoform.evaluation.benchmark import Place
    from kinoform.evaluation.inputs.benchmark import InputsPlace
    from kinoform.evaluation.inputs.case import Case
    from kinoform.media.video import Video

MOST_VIDEOS = 100_000


@command
def evaluate(
    model: Annotated[str, typer.Argument(help="The model to judge.", autocompletion=model_names)] = "mini",
    level: Annotated[list[str] | None, option(VIDEO, "L1, L2 or L3; may be repeated, all of them if left out.")] = None,
    count: Annotated[int, option(VIDEO, "Videos per level and split, or scenes per task.")] = 200,
    compare: Annotated[
        str | None,
        option(VIDEO, "A model, settings as steps=8,guidance_scale=3, or MODEL,steps=8.", complete=model_names),
    ] = None,
    inputs: Annotated[bool, option(VIDEO, "Judge how frames, masks and references are followed.", "--inputs")] = False,
    task: Annotated[list[str] | None, option(VIDEO, "Which of the tasks of --inputs; may be repeated.")] = None,
    *,
    named: Annotated[ModelOptions, varied(only=("recipe", "variant"))],
    made: Annotated[VideoOptions, varied(only=("steps", "guidance_scale", "shift", "solver"))],
    machine: MachineOptions,
    html: Annotated[Path | None, option(OUTPUT, "Also write a page with tables and videos.")] = None,
    html_videos: Annotated[int, option(OUTPUT, "Videos of a kind on the page.")] = 24,
    told: Annotated[OutputOptions, varied(only=("force", "as_json"))],
) -> None:
    """Measure prompt-following on the world's held-back prompts; the same videos on every machine."""
    for name, value, least in (("--count", count, 1), ("--html-videos", html_videos, 0)):
        if not least <= value <= MOST_VIDEOS:
            raise UsageError(f"{name} must be from {least} to {MOST_VIDEOS}, not {value}", code="value_out_of_range")
    if inputs and level:
        raise UsageError("--inputs judges tasks in place of levels; leave out --level", code="options_conflict")
    if task and not inputs:
        raise UsageError("--task chooses among the tasks of --inputs; pass that too", code="option_missing")
    page = PageFile(path=html, videos=html_videos, force=told.force)
    page.check()
    side = ComparedModel(model=replace(named, model=model), made=made, machine=machine)
    other = None if compare is None else beside(side, compare)
    asked = Judging(first=side, compare=compare, other=other, count=count, page=page, as_json=told.as_json)
    if inputs:
        judge_inputs(asked, task or [])
    else:
        judge_prompts(asked, level)


def judge_prompts(asked: Judging, level: list[str] | None) -> None:
    """Videos of the prompts of some levels, or of all, and of what images show where a side takes references."""
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.evaluation.combined_report import judgement, judgement_page, judgement_tables, stages_of
    from kinoform.evaluation.inputs.page import strip
    from kinoform.evaluation.page import image
    from kinoform.evaluation.prompts import LEVELS

    levels = list(dict.fromkeys(level or LEVELS))
    images: dict[Place, bytes] = {}
    strips: dict[InputsPlace, bytes] = {}

    def watch(place: Place, video: Video) -> None:
        if asked.page.shows(place.number):
            images[place] = image(video)

    def watch_identity(place: InputsPlace, case: Case, video: Video) -> None:
        if asked.page.shows(place.number):
            strips[place] = image(strip(case, video))

    mine, theirs = contenders(asked.first, asked.other)
    titles = {stage: stage for stage in stages_of(mine, theirs, levels)}
    with stages(titles, items=1 if theirs is None else 2) as tell:
        found = judgement(
            mine, theirs, levels=levels, count=asked.count, tell=tell, watch=watch, watch_identity=watch_identity
        )
    if asked.page.path is not None:
        command = asked.command(word for name in levels for word in ("--level", name))
        asked.page.write(judgement_page(found, command=command, images=images, strips=strips))
    sides = [side[0] for side in found.words.sides]
    asked.show(found.as_json(), found.words.names, sides, judgement_tables(found))


def judge_inputs(asked: Judging, names: list[str]) -> None:
    """Videos of the tasks that the first model's inputs allow, or of those of them that are named."""
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.evaluation.inputs.benchmark import benchmark_inputs
    from kinoform.evaluation.inputs.evaluate import tasks_for
    from kinoform.evaluation.inputs.page import inputs_page, strip
    from kinoform.evaluation.inputs.tables import inputs_tables
    from kinoform.evaluation.page import image

    images: dict[InputsPlace, bytes] = {}

    def watch(place: InputsPlace, case: Case, video: Video) -> None:
        if asked.page.shows(place.number):
            images[place] = image(strip(case, video))

    mine, theirs = contenders(asked.first, asked.other)
    tasks = tasks_for(mine.pipeline, names)
    titles = {task.name: task.name for task in tasks}
    with stages(titles, items=1 if theirs is None else 2) as tell:
        report = benchmark_inputs(mine, theirs, tasks, count=asked.count, tell=tell, watch=watch)
    if asked.page.path is not None:
        command = asked.command(["--inputs", *(word for name in names for word in ("--task", name))])
        asked.page.write(inputs_page(report, command=command, images=images))
    asked.show(report.as_json(), report.names, report.sides, inputs_tables(report))
