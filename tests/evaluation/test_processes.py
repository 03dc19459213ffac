"""Several processes give the numbers of one, in the same order, and none outlives the work."""

from dataclasses import replace
from functools import partial
from multiprocessing import Pipe, active_children
from multiprocessing.connection import Connection

import pytest

from kinoform.cli.evaluate_report import ComparedModel, prepared
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.option_groups import VideoOptions
from kinoform.evaluation.benchmark import VideoKey, benchmark
from kinoform.evaluation.metrics import Evaluation
from kinoform.evaluation.processes import several, shared_scenes
from kinoform.evaluation.tasks import prompt_tasks
from tests.support.narrowing import of_type
from tests.support.refusals import refused

FAST = ComparedModel(
    model=ModelOptions(model="mini"), video=VideoOptions(size="64x64", frames=5, steps=1),
    machine=MachineOptions(device="cpu"),
)  # fmt: skip


def timeless(evaluation: Evaluation) -> Evaluation:
    cases = [
        replace(case, seconds_per_video=0.0, videos=tuple(replace(video, seconds=0.0) for video in case.videos))
        for case in evaluation.cases
    ]
    return replace(evaluation, cases=tuple(cases))


def test_two_processes_give_the_numbers_of_one_and_end_when_they_are_stopped() -> None:
    prepare = partial(prepared, [FAST], ["L1"], [])
    (mine,), tasks = prepare()
    told: list[list[tuple]] = [[], []]

    def stop(*words: object) -> None:
        raise KeyboardInterrupt

    def judged(number: int, make_scenes) -> Evaluation:
        def on_video(key: VideoKey, case, video) -> None:
            told[number].append((key, case.prompt, video.frames.tobytes()))

        def on_progress(*words: object) -> None:
            told[number].append(words)

        words = {"on_video": on_video, "on_progress": on_progress, "make_scenes": make_scenes}
        return timeless(benchmark(mine, (), tasks, count=3, **words).first)

    with pytest.raises(KeyboardInterrupt), several(2, prepare) as make_scenes:
        assert not active_children(), "none is started before all is checked"
        assert judged(1, make_scenes) == judged(0, None)
        assert told[0] == told[1] and len(told[0]) == 12
        assert len(active_children()) == 2
        benchmark(mine, (), tasks, count=3, on_progress=stop, make_scenes=make_scenes)
    assert not active_children()


def test_one_process_needs_no_other() -> None:
    with several(1, lambda: pytest.fail("prepared again")) as make_scenes:
        assert make_scenes is None


def test_a_process_that_has_ended_is_told() -> None:
    mine, theirs = Pipe()
    theirs.close()
    with refused("process_killed", "--processes"):
        next(shared_scenes([of_type(Connection, mine)], 0, prompt_tasks(["L1"])[0], 1))
