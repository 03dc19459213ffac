"""Evaluate one model, or several sides on the same scenes and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeAlias

from kinoform.evaluation.case import Case, Task
from kinoform.evaluation.evaluate import OnProgress, OnVideo, SceneVideos, check_tasks, evaluate
from kinoform.evaluation.report import Report
from kinoform.evaluation.tasks import IDENTITY_TASKS, LEVELS, prompt_tasks
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.sampling import L1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUnderTest:
    """Model, and the `changes` of its recipe's defaults under which it makes its videos."""

    pipeline: Pipeline
    changes: Mapping[str, object] = field(default_factory=dict)


class VideoKey(NamedTuple):
    """Key of a video: `side` is 0 for the first model, 1 for the next; `number` is that of the scene, from 0."""

    side: int
    case: str
    number: int


MakeSideScenes: TypeAlias = Callable[[int, Task, int], Iterator[SceneVideos]]
"""Function that makes the first so many scenes of a task, in order, with the model of a side, counted from 0."""


def default_tasks(sides: Sequence[ModelUnderTest], levels: Sequence[str] = tuple(LEVELS)) -> tuple[Task, ...]:
    """Return the tasks of models where none are chosen: prompts of these levels, and identity.

    Identity belongs to the level of its scenes, L1, and is judged where one side takes references; another that takes
    none makes its videos without. Raises UsageError for a level that there is not.
    """
    prompts = prompt_tasks(levels)
    takes = [frozenset(side.pipeline.inputs) for side in sides]
    identity = [task for task in IDENTITY_TASKS if any(task.needs <= inputs for inputs in takes)]
    return (*prompts, *(identity if any(LEVELS[level] == L1 for level in levels) else ()))


def benchmark(
    first: ModelUnderTest,
    others: Sequence[ModelUnderTest],
    tasks: Sequence[Task],
    *,
    count: int = 200,
    on_progress: OnProgress = lambda task, done, total: None,
    on_video: Callable[[VideoKey, Case, Video], None] = lambda key, case, video: None,
    make_scenes: MakeSideScenes | None = None,
) -> Report:
    """Evaluate each side with `count` scenes a task; `on_video` sees every video once.

    `make_scenes` makes the scenes in place of this process: `kinoform.evaluation.processes.several` gives one. Raises
    what `evaluate` raises for any side, before the first video is made.
    """
    sides = [first, *others]
    for side in sides:
        check_tasks(side.pipeline, tasks, count, side.changes)
    results = [
        evaluate(
            side.pipeline, tasks, count=count, on_progress=on_progress, on_video=_keyed(on_video, number),
            make_scenes=None if make_scenes is None else partial(make_scenes, number), **side.changes,
        )
        for number, side in enumerate(sides)
    ]  # fmt: skip
    return Report(first=results[0], others=tuple(results[1:]))


def _keyed(on_video: Callable[[VideoKey, Case, Video], None], side: int) -> OnVideo:
    return lambda name, number, case, video: on_video(VideoKey(side, name, number), case, video)
