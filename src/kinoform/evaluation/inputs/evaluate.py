"""Make the videos of the tasks that a model's inputs allow, and count what they show, beside the codec's ceiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool

from kinoform.conditions.inputs import InputField
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import VIDEO
from kinoform.errors import UsageError, nearest
from kinoform.evaluation.cost import VideoFlops, video_flops
from kinoform.evaluation.evaluate import SETTINGS, Tell, check_words
from kinoform.evaluation.inputs.case import Case, Task, rendered
from kinoform.evaluation.inputs.edit_tasks import EDIT_TASKS
from kinoform.evaluation.inputs.frames_tasks import FRAMES_TASKS
from kinoform.evaluation.inputs.identity_tasks import IDENTITY_TASKS
from kinoform.evaluation.inputs.making import Frames, Made, in_place, made
from kinoform.evaluation.inputs.skill import CaseSkill, InputsEvaluation, InputsTrial, case_skill, pooled
from kinoform.evaluation.making import EXACT, redrawn
from kinoform.evaluation.verdict import Verdict, attributes, judge
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.fidelity import foreground_psnr
from kinoform.world.sampling import Difficulty
from kinoform.world.scene import Scene
from kinoform.world.score import chance

TASKS = (*FRAMES_TASKS, *EDIT_TASKS, *IDENTITY_TASKS)

Redraw: TypeAlias = Callable[[Scene], Frames]

InputsWatch: TypeAlias = Callable[[str, int, Case, Video], None]
"""Called with the case's name, the number of its scene, the case and its video, which is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What all cases of one model share."""

    pipeline: Pipeline
    size: VideoSize
    takes: frozenset[InputField[Any]]
    redraw: Redraw
    watch: InputsWatch
    changes: Mapping[str, Any]


def tasks_for(pipeline: Pipeline, names: Sequence[str] = ()) -> tuple[Task, ...]:
    """The tasks for the inputs that a model takes, or those of them that are named.

    Raises UsageError for a model without inputs and for a name that is none of its tasks'.
    """
    takes = frozenset(pipeline.inputs)
    found = tuple(task for task in TASKS if task.needs <= takes)
    if not found:
        raise UsageError(
            f"{pipeline.recipe.name} takes {', '.join(item.said for item in pipeline.inputs) or 'no inputs'}, "
            "for which there is no task; leave out --inputs",
            code="task_missing",
        )
    known = [task.name for task in found]
    for name in names:
        if name not in known:
            raise UsageError(
                f"{pipeline.recipe.name} has no task {name[:60]!r}; {nearest(name[:60], known)}", code="unknown_name"
            )
    return tuple(task for task in found if not names or task.name in names)


def evaluate_inputs(
    pipeline: Pipeline,
    tasks: Sequence[Task],
    *,
    count: int = 200,
    tell: Tell = lambda stage, done, total: None,
    watch: InputsWatch = lambda name, number, case, video: None,
    **changes: Any,
) -> InputsEvaluation:
    """Make the videos of `count` scenes a task, one at a time, and read them; `changes` go into every request.

    Inputs that the model does not take are left out, and its figures say so. Raises as `check_tasks`.
    """
    check_tasks(pipeline, tasks, count, changes)
    bench = _bench(pipeline, watch, changes)
    cases: list[CaseSkill] = []
    pools: dict[str, list[CaseSkill]] = {}
    for task in tasks:
        found = _judged(bench, task, count, tell)
        cases += found
        if task.pool:
            pools.setdefault(task.pool, []).extend(found)
    params = pipeline.params(pipeline.request("x", seed=0, inputs=_first_inputs(bench, tasks[0]), **changes))
    return InputsEvaluation(
        model=pipeline.recipe.name,
        fingerprint=pipeline.parts.fingerprint(),
        settings={name: params[name] for name in SETTINGS},
        cases=(*cases, *(pooled(name, several) for name, several in pools.items())),
    )


def check_tasks(pipeline: Pipeline, tasks: Sequence[Task], count: int, changes: Mapping[str, Any]) -> None:
    """Refuse before the first video what cannot be measured.

    Raises UsageError for a `count` below 1 or a request that cannot be made, and WeightsError for a model that does
    not know the world's words.
    """
    if count < 1:
        raise UsageError(f"count must be at least 1, not {count}", code="value_out_of_range")
    check_words(pipeline)
    bench = _bench(pipeline, lambda *words: None, changes)
    for task in tasks:
        for case in task.cases(0, bench.size).values():
            inputs = case.inputs.only(bench.takes)
            pipeline.request(case.prompt, seed=case.seed, inputs=inputs, **changes)


def _bench(pipeline: Pipeline, watch: InputsWatch, changes: Mapping[str, Any]) -> _Bench:
    recipe = pipeline.recipe
    size = VideoSize(num_frames=recipe.num_frames, height=recipe.height, width=recipe.width)
    # A scene's cases have at most two targets, and come one after the other.
    redraw = lru_cache(maxsize=2)(lambda scene: redrawn(pipeline, rendered(scene, size)))
    return _Bench(
        pipeline=pipeline, size=size, takes=frozenset(pipeline.inputs), redraw=redraw, watch=watch, changes=changes
    )  # fmt: skip


def _first_inputs(bench: _Bench, task: Task) -> object:
    first = next(iter(task.cases(0, bench.size).values()))
    return first.inputs.only(bench.takes)


def _judged(bench: _Bench, task: Task, count: int, tell: Tell) -> list[CaseSkill]:
    trials: dict[str, list[InputsTrial]] = {}
    cases: Mapping[str, Case] = {}
    for number in range(count):
        cases = task.cases(number, bench.size)
        for name, case in cases.items():
            trials.setdefault(name, []).append(_trial(bench, task.level, name, number, case))
        tell(task.name, number + 1, count)
    return [
        case_skill(
            name,
            trials[name],
            chance=_chance(task.level, case),
            left_out=tuple(item.said for item in case.inputs if item not in bench.takes),
            flops=_flops(bench, case),
        )
        for name, case in cases.items()
    ]


def _trial(bench: _Bench, level: Difficulty, name: str, number: int, case: Case) -> InputsTrial:
    reduced = replace(case, inputs=case.inputs.only(bench.takes))
    begun = perf_counter()
    found = made(bench.pipeline, reduced, bench.changes)
    seconds = perf_counter() - begun
    bench.watch(name, number, case, found.video)
    redrawn_target = bench.redraw(case.target)
    laid, ceiling_figures = in_place(case, found, redrawn_target)
    return InputsTrial(
        prompt=case.prompt,
        seed=case.seed,
        video=_verdict(case, level, found.video.frames, found.marks),
        ceiling=_verdict(case, level, laid, {}),
        figures={**_kept_psnr(case, found, found.raw, bench.size), **found.figures},
        ceiling_figures={**_kept_psnr(case, found, redrawn_target, bench.size), **ceiling_figures},
        seconds=seconds,
    )


def _flops(bench: _Bench, case: Case) -> VideoFlops | None:
    """Of a video from the case's inputs; an edit may be made in several pieces, and is not counted."""
    inputs = case.inputs.only(bench.takes)
    if VIDEO in inputs:
        return None
    return video_flops(
        bench.pipeline, bench.pipeline.request(case.prompt, seed=case.seed, inputs=inputs, **bench.changes)
    )


def _verdict(case: Case, level: Difficulty, frames: Frames, promised: Mapping[str, bool]) -> Verdict:
    """What a video shows, with the marks of its case, which come first, and of what was promised."""
    found = judge(case.target.story, level, frames)
    joint = {name: all(found.marks[each] for each in parts) for name, parts in case.joint.items()}
    former = {} if case.former is None else {"former_motion": judge(case.former, level, frames).marks["motion"]}
    return replace(found, marks={**joint, **found.marks, **former, **promised})


def _kept_psnr(case: Case, found: Made, frames: Frames, size: VideoSize) -> dict[str, float]:
    """The PSNR of what was given and shall stay; nothing where nothing was."""
    kept: Bool[np.ndarray, "f h w"] | None = found.kept
    if kept is None or not kept.any():
        return {}
    error = foreground_psnr(frames, rendered(case.target, size), kept[None].astype(np.float32))
    return {"kept_psnr": min(EXACT, error)}


def _chance(level: Difficulty, case: Case) -> dict[str, float]:
    guess = chance(level)
    single = {name: float(getattr(guess, name)) for name in attributes(level)}
    joint = {name: float(np.prod([single[each] for each in parts])) for name, parts in case.joint.items()}
    former = {} if case.former is None else {"former_motion": guess.motion}
    return {**joint, **single, **former}
