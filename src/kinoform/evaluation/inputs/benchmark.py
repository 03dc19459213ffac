"""Judge how one model follows its inputs, or two sides on the same scenes and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kinoform.evaluation.benchmark import Contender
from kinoform.evaluation.evaluate import Tell
from kinoform.evaluation.inputs.case import Case, Task
from kinoform.evaluation.inputs.evaluate import InputsWatch, check_tasks, evaluate_inputs
from kinoform.evaluation.inputs.report import InputsReport
from kinoform.media.video import Video


class InputsPlace(NamedTuple):
    """Which video: `side` is 0 for the first contender, 1 for the other; `number` is that of the scene, from 0."""

    side: int
    case: str
    number: int


def benchmark_inputs(
    first: Contender,
    other: Contender | None,
    tasks: Sequence[Task],
    *,
    count: int = 200,
    tell: Tell = lambda stage, done, total: None,
    watch: Callable[[InputsPlace, Case, Video], None] = lambda place, case, video: None,
) -> InputsReport:
    """Evaluate each side with `count` scenes a task; `watch` sees every video once.

    Raises what `evaluate_inputs` raises for either side, before the first video is made.
    """
    sides = [first] if other is None else [first, other]
    for side in sides:
        check_tasks(side.pipeline, tasks, count, side.changes)
    found = [
        evaluate_inputs(
            side.pipeline, tasks, count=count, tell=tell, watch=_watching(watch, number), **side.changes
        )
        for number, side in enumerate(sides)
    ]  # fmt: skip
    return InputsReport(first=found[0], other=None if other is None else found[1])


def _watching(watch: Callable[[InputsPlace, Case, Video], None], side: int) -> InputsWatch:
    return lambda name, number, case, video: watch(InputsPlace(side, name, number), case, video)
