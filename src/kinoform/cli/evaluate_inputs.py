"""`kinoform evaluate --inputs`: how known frames, videos with masks, and references are followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinoform.cli.evaluate_report import Judging
from kinoform.cli.progress import stages
from kinoform.cli.sides import contenders

if TYPE_CHECKING:
    from kinoform.evaluation.inputs.benchmark import InputsPlace
    from kinoform.evaluation.inputs.case import Case
    from kinoform.media.video import Video


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
