"""`kinoform evaluate`: how often videos show what their prompts, or their inputs, say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli.evaluate_report import ComparedModel, PageFile, beside, command_line, prepared, show
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.option_groups import OutputOptions, TrainingOptions, VideoOptions
from kinoform.cli.options import OUTPUT, VIDEO, command, model_names, option, varied
from kinoform.cli.progress import stages
from kinoform.errors import UsageError

if TYPE_CHECKING:
    from kinoform.evaluation.benchmark import VideoKey
    from kinoform.evaluation.case import Case
    from kinoform.media.video import Video

MAX_VIDEOS, MAX_PROCESSES = 100_000, 256

SETTINGS = ("steps", "guidance_scale", "shift", "solver")
JUDGED = varied(only=("size", "frames", *SETTINGS), settings=SETTINGS)
"""Options of the videos; their size is that of the recipe or of the command line, and never of a settings file."""


@command
def evaluate(
    model: Annotated[str, typer.Argument(help="The model to judge.", autocompletion=model_names)] = "mini",
    level: Annotated[list[str] | None, option(VIDEO, "L1, L2 or L3; may be repeated, all of them if left out.")] = None,
    count: Annotated[int, option(VIDEO, "Videos per level and split, or scenes per task.")] = 200,
    compare: Annotated[
        list[str] | None,
        option(
            VIDEO, "A model, settings as steps=8,guidance_scale=3, or MODEL,steps=8; repeatable.", complete=model_names
        ),
    ] = None,
    inputs: Annotated[bool, option(VIDEO, "Judge how frames, masks and references are followed.", "--inputs")] = False,
    task: Annotated[list[str] | None, option(VIDEO, "Which of the tasks of --inputs; may be repeated.")] = None,
    *,
    named: Annotated[ModelOptions, varied(only=("recipe", "variant"))],
    video_options: Annotated[VideoOptions, JUDGED],
    machine: MachineOptions,
    training: Annotated[
        TrainingOptions,
        varied(only=("processes",), settings=(), help={"processes": "Processes that share the videos; one a core."}),
    ],
    html: Annotated[Path | None, option(OUTPUT, "Also write a page with tables and videos.")] = None,
    html_videos: Annotated[int, option(OUTPUT, "Videos of a kind on the page.")] = 24,
    output: Annotated[OutputOptions, varied(only=("force", "as_json"))],
) -> None:
    """Measure prompt-following on the world's held-back prompts; the same videos on every machine."""
    for name, value, min_, max_ in (
        ("--count", count, 1, MAX_VIDEOS),
        ("--html-videos", html_videos, 0, MAX_VIDEOS),
        ("--processes", training.processes, 1, MAX_PROCESSES),
    ):
        if not min_ <= value <= max_:
            raise UsageError(f"{name} must be from {min_} to {max_}, not {value}", code="value_out_of_range")
    if inputs and level:
        raise UsageError("--inputs judges tasks in place of levels; leave out --level", code="options_conflict")
    if task and not inputs:
        raise UsageError("--task chooses among the tasks of --inputs; pass that too", code="option_missing")
    page = PageFile(path=html, videos=html_videos, force=output.force)
    page.check()
    side = ComparedModel(model=replace(named, model=model), video=video_options, machine=machine)
    sides = [side, *(beside(side, text) for text in compare or [])]
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.evaluation.benchmark import benchmark
    from kinoform.evaluation.page import page as write_page
    from kinoform.evaluation.page import thumbnail
    from kinoform.evaluation.processes import several
    from kinoform.evaluation.tasks import LEVELS

    levels = None if inputs else list(dict.fromkeys(level or LEVELS))
    prepare = partial(prepared, sides, levels, task or [])
    (mine, *others), tasks = prepare()
    words = ["--inputs", *_repeated("--task", task or [])] if levels is None else _repeated("--level", levels)
    images: dict[VideoKey, bytes] = {}

    def on_video(key: VideoKey, case: Case, video: Video) -> None:
        if page.shows(key.number):
            images[key] = thumbnail(case, video)

    titles = {task.name: task.name for task in tasks}
    with stages(titles, items=len(sides)) as on_progress, several(training.processes, prepare) as make_scenes:
        report = benchmark(
            mine, others, tasks, count=count, on_progress=on_progress, on_video=on_video, make_scenes=make_scenes
        )
    if page.path is not None:
        page.write(write_page(report, command=command_line(side, compare or [], count, words), images=images))
    show(report, as_json=output.as_json)


def _repeated(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]
