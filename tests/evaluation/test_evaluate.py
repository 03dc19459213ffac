"""What is asked for never changes, what is counted is what the videos show, and two sides see the same prompts."""

import json
import weakref
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from kinoform.conditions.protocols import VideoSize
from kinoform.evaluation.benchmark import ModelUnderTest, VideoKey, benchmark
from kinoform.evaluation.case import Case, Task
from kinoform.evaluation.evaluate import evaluate
from kinoform.evaluation.report import differences
from kinoform.evaluation.result import attributes
from kinoform.evaluation.tasks import LEVELS, SPLITS, prompt_tasks
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.parse import parse
from kinoform.world.render import render
from kinoform.world.sampling import is_held_out
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny_pipeline, write_tiny_folder

SIZE = VideoSize(num_frames=17, height=64, width=64)
L1_TASKS = prompt_tasks(["L1"])


def asked(task: Task, count: int) -> list[Case]:
    return [case for number in range(count) for case in task.cases(number, SIZE).values()]


@pytest.mark.parametrize(
    ("level", "hashed"), [("L1", "ea395f1c642df663"), ("L2", "31d2f03d49cdbc19"), ("L3", "b7b2b3ff6cf6666d")]
)
def test_the_same_prompts_and_seeds_everywhere(level: str, hashed: str) -> None:
    """Figures of different days are comparable only while this holds."""
    text = "".join(f"{case.seed} {case.prompt}\n" for task in prompt_tasks([level]) for case in asked(task, 200))
    assert sha256(text.encode()).hexdigest()[:16] == hashed


@pytest.mark.parametrize("level", LEVELS)
def test_prompts_lie_on_their_side_and_say_their_scene(level: str) -> None:
    for split, task in zip(SPLITS, prompt_tasks([level]), strict=True):
        cases = asked(task, 40)
        assert all(is_held_out(case.target.story) == (split == "held-out") for case in cases)
        assert all(parse(case.prompt) == case.target.story for case in cases)
        assert len({case.seed for case in cases}) == 40
        assert list(task.cases(0, SIZE)) == [task.name]


def test_no_two_streams_are_alike() -> None:
    seeds = [case.seed for task in prompt_tasks() for case in asked(task, 40)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("level", LEVELS)
def test_videos_of_the_scenes_themselves_are_right(mini: Pipeline, paint, level: str) -> None:
    paint(lambda case: render(case.target))
    tasks = prompt_tasks([level])
    found = evaluate(mini, tasks, count=2)
    assert [case.name for case in found.cases] == [f"{level} {split}" for split in SPLITS]
    for case, task in zip(found.cases, tasks, strict=True):
        judged = set(attributes(LEVELS[level]))
        assert set(case.chance) == judged
        assert set(case.skill) == set(case.ceiling) == judged | {"binding_error", "count_constancy"}
        few = {"size", "binding_error"}
        assert all(share.right == share.trials == 2 for name, share in case.skill.items() if name not in few)
        assert case.skill["binding_error"].right == 0
        assert case.figures.get("background_drift", 0.0) == 0.0
        assert case.ceiling_figures["psnr"] > 20 and case.ceiling_figures["foreground_psnr"] > 10
        assert [video.prompt for video in case.videos] == [case.prompt for case in asked(task, 2)]


def test_videos_of_something_else_are_wrong(mini: Pipeline, paint) -> None:
    paint(lambda case: np.full((17, 64, 64, 3), case.target.things[0].subject.colour.rgb, dtype=np.uint8))
    for case in evaluate(mini, L1_TASKS, count=2).cases:
        assert case.skill["all_right"].right == case.skill["count"].right == case.skill["colour"].right == 0
        assert case.skill["binding_error"].right == 2
        assert case.skill["count_constancy"].right == 2, "no object in any frame is constant"


def test_videos_are_made_one_at_a_time_and_each_as_if_alone(mini: Pipeline) -> None:
    kept: list[weakref.ref] = []
    second: list[np.ndarray] = []

    def on_video(name: str, number: int, case: Case, video: Video) -> None:
        kept.append(weakref.ref(video.frames))
        assert sum(each() is not None for each in kept) <= 2, "the video before may live until the next has its name"
        if (name, number) == ("L1 held-out", 1):
            second.append(video.frames.copy())

    told: list[tuple[str, int, int]] = []
    evaluate(mini, L1_TASKS, count=2, steps=2, on_video=on_video, on_progress=lambda *words: told.append(words))
    assert len(kept) == 4
    assert told == [("L1 seen", 1, 2), ("L1 seen", 2, 2), ("L1 held-out", 1, 2), ("L1 held-out", 2, 2)]
    case = asked(L1_TASKS[1], 2)[1]
    assert np.array_equal(second[0], mini(case.prompt, seed=case.seed, num_inference_steps=2).frames)


def test_two_sides_are_asked_for_the_same_videos(mini: Pipeline, paint) -> None:
    keys: list[VideoKey] = []
    wrong = np.zeros((17, 64, 64, 3), dtype=np.uint8)
    painted: list[int] = []

    def alternating(case: Case) -> np.ndarray:
        painted.append(case.seed)
        return render(case.target) if len(painted) <= 4 else wrong

    paint(alternating)
    right, left = ModelUnderTest(pipeline=mini), ModelUnderTest(pipeline=mini, changes={"steps": 3})
    tasks = prompt_tasks(["L2"])
    found = benchmark(right, [left], tasks, count=2, on_video=lambda key, case, video: keys.append(key))
    assert painted[:4] == painted[4:]
    assert [key.side for key in keys] == [0] * 4 + [1] * 4
    assert found.names == (f"mini steps={mini.recipe.steps}", "mini steps=3")
    for task in tasks:
        shape = found.differences[0][task.name]["shape"]
        assert (shape.trials, shape.only_first, shape.only_other, shape.difference) == (2, 2, 0, -1.0)
        assert found.differences[0][task.name]["count_constancy"].difference == 0
    plain = json.loads(json.dumps(found.as_json()))
    assert plain["others"][0]["settings"]["steps"] == 3
    assert len(plain["others"][0]["differences"]) == sum(map(len, found.differences[0].values()))


def test_a_side_beside_itself_differs_in_nothing(mini: Pipeline, paint) -> None:
    paint(lambda case: render(case.target))
    side = ModelUnderTest(pipeline=mini)
    found = benchmark(side, [side], L1_TASKS, count=2)
    assert all(
        each.difference == 0 and not each.excludes_zero
        for marks in found.differences[0].values()
        for each in marks.values()
    )
    with refused("videos_not_paired"):
        differences(found.first.cases[0], evaluate(mini, L1_TASKS, count=1).cases[0])


@pytest.mark.parametrize(
    ("words", "named"),
    [({"count": 0}, "count"), ({"steps": 0}, "steps"), ({"guidance_scale": float("nan")}, "guidance_scale")],
)
def test_what_cannot_be_measured_is_refused_before_any_video(mini: Pipeline, paint, words: dict, named: str) -> None:
    paint(lambda case: pytest.fail("a video was made"))
    with refused("value_out_of_range", named):
        evaluate(mini, L1_TASKS, **words)


def test_a_level_that_there_is_not_is_refused() -> None:
    with refused("unknown_name", "L1, L2, L3"):
        prompt_tasks(["L1", "L4"])


def test_a_model_of_other_words_is_refused_before_any_video(mini: Pipeline, paint, tmp_path: Path) -> None:
    paint(lambda case: pytest.fail("a video was made"))
    other = tiny_pipeline(write_tiny_folder(tmp_path / "tiny"))
    with refused("weights_wrong_vocabulary", "such as mini"):
        evaluate(other, L1_TASKS)
    with refused("weights_wrong_vocabulary"):
        benchmark(ModelUnderTest(pipeline=mini), [ModelUnderTest(pipeline=other)], L1_TASKS, count=1)
