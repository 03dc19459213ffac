"""Make the videos of tasks and count what they show, beside the codec's ceiling and chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from kinoform.conditions.inputs import InputField
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import VIDEO
from kinoform.errors import UsageError, WeightsError, nearest
from kinoform.evaluation.case import Case, Task, rendered
from kinoform.evaluation.generate import EXACT, Frames, Generated, generated, in_place, redrawn
from kinoform.evaluation.metrics import CaseMetrics, Evaluation, Trial, VideoFlops, case_metrics, pooled
from kinoform.evaluation.result import VideoResult, attributes, judge
from kinoform.evaluation.tasks import INPUT_TASKS
from kinoform.media.video import Video
from kinoform.pipelines.fit import sizes_of, workload_of
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request
from kinoform.plan.video_plan import plan_video
from kinoform.world.caption import vocabulary
from kinoform.world.fidelity import foreground_psnr, psnr
from kinoform.world.render import coverage
from kinoform.world.sampling import Difficulty
from kinoform.world.scene import Scene
from kinoform.world.score import chance

SETTINGS = ("width", "height", "num_frames", "steps", "guidance_scale", "shift", "solver", "dtype")

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""Called after each scene with the task's name, the scenes of the task that are done, and all of them."""

OnVideo: TypeAlias = Callable[[str, int, Case, Video], None]
"""Called with the case's name, the number of its scene, the case and its video, which is not kept."""

SceneVideos: TypeAlias = Mapping[str, tuple[Trial, Video]]
"""The cases of one scene, by name: what each video shows, and the video."""

MakeScenes: TypeAlias = Callable[[Task, int], Iterator[SceneVideos]]
"""Function that makes the first so many scenes of a task, in order, perhaps several at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """Settings that the cases of one scene share; `render` and `redraw` remember their results."""

    pipeline: Pipeline
    size: VideoSize
    takes: frozenset[InputField[Any]]
    render: Callable[[Scene], Frames]
    redraw: Callable[[Scene], Frames]
    changes: Mapping[str, Any]


def input_tasks(pipeline: Pipeline, names: Sequence[str] = ()) -> tuple[Task, ...]:
    """Return the tasks for the inputs that a model takes, or those of them that are named.

    Raises UsageError for a model without inputs and for a name that is none of its tasks'.
    """
    takes = frozenset(pipeline.inputs)
    fitting = tuple(task for task in INPUT_TASKS if task.needs <= takes)
    if not fitting:
        raise UsageError(
            f"{pipeline.recipe.name} takes {', '.join(item.said for item in pipeline.inputs) or 'no inputs'}, "
            "for which there is no task; leave out --inputs",
            code="task_missing",
        )
    known = [task.name for task in fitting]
    for name in names:
        if name not in known:
            raise UsageError(
                f"{pipeline.recipe.name} has no task {name[:60]!r}; {nearest(name[:60], known)}", code="unknown_name"
            )
    return tuple(task for task in fitting if not names or task.name in names)


def evaluate(
    pipeline: Pipeline,
    tasks: Sequence[Task],
    *,
    count: int = 200,
    on_progress: OnProgress = lambda task, done, total: None,
    on_video: OnVideo = lambda name, number, case, video: None,
    make_scenes: MakeScenes | None = None,
    **changes: Any,
) -> Evaluation:
    """Make the videos of `count` scenes a task and read them; `changes` go into every request.

    Videos are made one at a time, in this process, unless `make_scenes` makes them. Inputs that the model does not take
    are left out, and its figures say so. Raises as `check_tasks`.
    """
    check_tasks(pipeline, tasks, count, changes)
    make = make_scenes or partial(_scenes, pipeline, changes)
    bench = _bench(pipeline, changes)
    cases: list[CaseMetrics] = []
    pools: dict[str, list[CaseMetrics]] = {}
    for task in tasks:
        measured = _measured(bench, task, count, make(task, count), on_progress, on_video)
        cases += measured
        if task.pool:
            pools.setdefault(task.pool, []).extend(measured)
    params = pipeline.params(_request(bench, next(iter(tasks[0].cases(0, bench.size).values()))))
    return Evaluation(
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
    _check_words(pipeline)
    pipeline.request("a ball", seed=0, **changes)  # before scenes are drawn in a size that cannot be
    bench = _bench(pipeline, changes)
    for task in tasks:
        for case in task.cases(0, bench.size).values():
            _request(bench, case)


def make_scene(pipeline: Pipeline, task: Task, number: int, changes: Mapping[str, Any]) -> SceneVideos:
    """Make the videos of scene `number` of a task, from 0, and read them."""
    bench = _bench(pipeline, changes)
    return {name: _trial(bench, task.level, case) for name, case in task.cases(number, bench.size).items()}


def video_flops(pipeline: Pipeline, request: Request) -> VideoFlops | None:
    """Count the operations of a video as `kinoform plan` does, its text at the full length of a prompt.

    Returns None where a part of the model is not counted.
    """
    machine = pipeline.machine
    plan = plan_video(sizes_of(pipeline.parts), workload_of(request), dtype=machine.dtype, device=machine.device.type)
    if plan.uncounted:
        return None
    executed = {stage: flops.executed for stage, flops in plan.flops.items()}
    return VideoFlops(total=sum(executed.values()), transformer=executed["denoise"])


def _check_words(pipeline: Pipeline) -> None:
    words = vocabulary()
    tokens = pipeline.parts.tokenizer()(words, pipeline.parts.text_spec.length)
    strange = [word for word, unknown in zip(words, tokens.unknown, strict=True) if unknown]
    if strange:
        raise WeightsError(
            f"{pipeline.recipe.name} does not know {len(strange)} of the {len(words)} words of the world's captions, "
            f"such as {strange[0]!r}; evaluate a model that was trained on this world, such as mini",
            code="weights_wrong_vocabulary",
        )


def _scenes(pipeline: Pipeline, changes: Mapping[str, Any], task: Task, count: int) -> Iterator[SceneVideos]:
    for number in range(count):
        yield make_scene(pipeline, task, number, changes)


def _bench(pipeline: Pipeline, changes: Mapping[str, Any]) -> _Bench:
    sides = {name: changes.get(name, getattr(pipeline.recipe, name)) for name in ("num_frames", "height", "width")}
    size = VideoSize(**sides)
    # A scene's cases have at most two targets, and come one after the other.
    render = lru_cache(maxsize=2)(lambda scene: rendered(scene, size))
    redraw = lru_cache(maxsize=2)(lambda scene: redrawn(pipeline, render(scene)))
    takes = frozenset(pipeline.inputs)
    return _Bench(pipeline=pipeline, size=size, takes=takes, render=render, redraw=redraw, changes=changes)


def _request(bench: _Bench, case: Case) -> Any:
    given = case.given(bench.takes)
    return bench.pipeline.request(given.prompt, seed=given.seed, inputs=given.inputs, **bench.changes)


def _measured(
    bench: _Bench, task: Task, count: int, scenes: Iterator[SceneVideos], on_progress: OnProgress, on_video: OnVideo
) -> list[CaseMetrics]:
    trials: dict[str, list[Trial]] = {}
    cases: Mapping[str, Case] = {}
    for number, scene in enumerate(scenes):
        cases = task.cases(number, bench.size)
        for name, case in cases.items():
            trial, video = scene[name]
            on_video(name, number, case, video)
            trials.setdefault(name, []).append(trial)
        on_progress(task.name, number + 1, count)
    return [
        case_metrics(
            name,
            trials[name],
            table=task.table or name,
            chance=_chance(task.level, case),
            left_out=tuple(item.said for item in case.inputs if item not in bench.takes),
            flops=_flops(bench, case),
        )
        for name, case in cases.items()
    ]


def _trial(bench: _Bench, level: Difficulty, case: Case) -> tuple[Trial, Video]:
    reduced = case.given(bench.takes)
    start = perf_counter()
    made = generated(bench.pipeline, reduced, bench.changes)
    seconds = perf_counter() - start
    target, ceiling = bench.render(case.target), bench.redraw(case.target)
    laid, ceiling_figures = in_place(reduced, made, ceiling)
    video, shown = _result(case, level, made.video.frames, made.marks), _result(case, level, laid, {})
    trial = Trial(
        prompt=case.prompt,
        seed=case.seed,
        video=video,
        ceiling=shown,
        figures={**_kept_psnr(made, made.raw, target), **made.figures, **_drift(video)},
        ceiling_figures={
            **_kept_psnr(made, ceiling, target),
            **ceiling_figures,
            **_drift(shown),
            **_fidelity(case, ceiling, target),
        },
        seconds=seconds,
    )
    return trial, made.video


def _flops(bench: _Bench, case: Case) -> VideoFlops | None:
    """Count a video from the case's inputs; an edit may be made in several pieces, and is not counted."""
    if VIDEO in case.inputs.only(bench.takes):
        return None
    return video_flops(bench.pipeline, _request(bench, case))


def _result(case: Case, level: Difficulty, frames: Frames, promised: Mapping[str, bool]) -> VideoResult:
    """Read a video; the marks of its case come first, those of what was promised last."""
    result = judge(case.target.story, level, frames)
    joint = {name: all(result.marks[part] for part in parts) for name, parts in case.joint.items()}
    former = {} if case.former is None else {"former_motion": judge(case.former, level, frames).marks["motion"]}
    return replace(result, marks={**joint, **result.marks, **former, **promised})


def _kept_psnr(made: Generated, frames: Frames, target: Frames) -> dict[str, float]:
    """Measure what was given and shall stay; nothing where nothing was."""
    if made.kept is None or not made.kept.any():
        return {}
    error = foreground_psnr(frames, target, made.kept[None].astype(np.float32))
    return {"kept_psnr": min(EXACT, error)}


def _drift(result: VideoResult) -> dict[str, float]:
    return {} if result.background_drift is None else {"background_drift": result.background_drift}


def _fidelity(case: Case, frames: Frames, target: Frames) -> dict[str, float]:
    """Measure a codec over the whole frame and over what objects cover."""
    num_frames, height, width, _ = target.shape
    covered = coverage(case.target, num_frames=num_frames, height=height, width=width)
    return {
        "psnr": min(EXACT, psnr(frames, target)),
        "foreground_psnr": min(EXACT, foreground_psnr(frames, target, covered)),
    }


def _chance(level: Difficulty, case: Case) -> dict[str, float]:
    guess = chance(level)
    single = {name: float(getattr(guess, name)) for name in attributes(level)}
    joint = {name: float(np.prod([single[part] for part in parts])) for name, parts in case.joint.items()}
    former = {} if case.former is None else {"former_motion": guess.motion}
    return {**joint, **single, **former}
