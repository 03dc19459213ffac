"""What is asked for never changes, what is counted is what the videos show, and two sides see the same prompts."""

import json
import weakref
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from kinoform.evaluation.benchmark import Contender, Place, benchmark
from kinoform.evaluation.evaluate import evaluate
from kinoform.evaluation.paired import differences
from kinoform.evaluation.prompts import LEVELS, SPLITS, prompts
from kinoform.evaluation.verdict import attributes
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.parse import parse
from kinoform.world.render import render
from kinoform.world.sampling import is_held_out
from refusals import refused
from tiny_recipe import tiny_pipeline, write_tiny_folder


@pytest.mark.parametrize(
    ("level", "hashed"), [("L1", "ea395f1c642df663"), ("L2", "31d2f03d49cdbc19"), ("L3", "b7b2b3ff6cf6666d")]
)
def test_the_same_prompts_and_seeds_everywhere(level: str, hashed: str) -> None:
    """Figures of different days are comparable only while this holds."""
    text = "".join(f"{asked.seed} {asked.prompt}\n" for split in SPLITS for asked in prompts(level, split, 200))
    assert sha256(text.encode()).hexdigest()[:16] == hashed


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("split", SPLITS)
def test_prompts_lie_on_their_side_and_say_their_scene(level: str, split: str) -> None:
    asked = list(prompts(level, split, 40))
    assert all(is_held_out(each.scene.story) == (split == "held-out") for each in asked)
    assert all(parse(each.prompt) == each.scene.story for each in asked)
    assert [each.number for each in asked] == list(range(40))
    assert asked[:7] == list(prompts(level, split, 7)), "fewer videos are the first of more"
    assert len({each.seed for each in asked}) == 40


def test_no_two_streams_are_alike() -> None:
    seeds = [asked.seed for level in LEVELS for split in SPLITS for asked in prompts(level, split, 40)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("level", LEVELS)
def test_videos_of_the_scenes_themselves_are_right(mini: Pipeline, paint, level: str) -> None:
    paint(lambda asked: render(asked.scene))
    found = evaluate(mini, level=level, count=2)
    assert [split.split for split in found.splits] == list(SPLITS)
    for split in found.splits:
        assert set(split.skill) == set(split.ceiling) == set(found.chance) == set(attributes(LEVELS[level]))
        assert all(each.right == each.trials == 2 for name, each in split.skill.items() if name != "size")
        assert split.binding_error.right == 0 and split.count_constancy.right == 2
        assert split.background_drift in (0.0, None)
        assert [video.prompt for video in split.videos] == [asked.prompt for asked in prompts(level, split.split, 2)]


def test_videos_of_something_else_are_wrong(mini: Pipeline, paint) -> None:
    paint(lambda asked: np.full((17, 64, 64, 3), asked.scene.things[0].subject.colour.rgb, dtype=np.uint8))
    for split in evaluate(mini, count=2).splits:
        assert split.skill["all_right"].right == split.skill["count"].right == split.skill["colour"].right == 0
        assert split.binding_error.right == 2
        assert split.count_constancy.right == 2, "no object in any frame is constant"


def test_videos_are_made_one_at_a_time_and_each_as_if_alone(mini: Pipeline) -> None:
    kept: list[weakref.ref] = []
    second: list[np.ndarray] = []
    most = 0

    def watch(split: str, number: int, video: Video) -> None:
        nonlocal most
        kept.append(weakref.ref(video.frames))
        most = max(most, sum(each() is not None for each in kept))
        if (split, number) == ("held-out", 1):
            second.append(video.frames.copy())

    told: list[tuple[str, int, int]] = []
    evaluate(mini, count=2, steps=2, watch=watch, tell=lambda *words: told.append(words))
    assert len(kept) == 4 and most <= 2, "the video before may live until the one after it is bound to its name"
    assert told == [("L1 seen", 1, 2), ("L1 seen", 2, 2), ("L1 held-out", 1, 2), ("L1 held-out", 2, 2)]
    asked = list(prompts("L1", "held-out", 2))[1]
    assert np.array_equal(second[0], mini(asked.prompt, seed=asked.seed, num_inference_steps=2).frames)


def test_two_sides_are_asked_for_the_same_videos(mini: Pipeline, paint) -> None:
    places: list[Place] = []
    wrong = np.zeros((17, 64, 64, 3), dtype=np.uint8)
    painted: list[int] = []

    def alternating(asked) -> np.ndarray:
        painted.append(asked.seed)
        return render(asked.scene) if len(painted) <= 4 else wrong

    paint(alternating)
    right, left = Contender(pipeline=mini), Contender(pipeline=mini, changes={"steps": 3})
    found = benchmark(right, left, levels=["L2"], count=2, watch=lambda place, video: places.append(place))
    assert painted[:4] == painted[4:]
    assert [place.side for place in places] == [0] * 4 + [1] * 4
    assert found.names == (f"mini steps={mini.recipe.steps}", "mini steps=3")
    by_name = {(each.split, each.attribute): each for each in found.differences}
    for split in SPLITS:
        shape = by_name[split, "shape"]
        assert (shape.trials, shape.only_first, shape.only_other, shape.difference) == (2, 2, 0, -1.0)
        assert by_name[split, "count_constancy"].difference == 0
    told = json.loads(json.dumps(found.as_json()))
    assert told["other"]["settings"]["steps"] == 3 and len(told["differences"]) == len(found.differences)


def test_a_side_beside_itself_differs_in_nothing(mini: Pipeline, paint) -> None:
    paint(lambda asked: render(asked.scene))
    side = Contender(pipeline=mini)
    found = benchmark(side, side, levels=["L1"], count=2)
    assert all(each.difference == 0 and not each.excludes_zero for each in found.differences)
    with refused("videos_not_paired"):
        differences(found.first[0], evaluate(mini, count=1))


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ({"level": "L4"}, "unknown_name", "L1, L2, L3"),
        ({"count": 0}, "value_out_of_range", "count"),
        ({"steps": 0}, "value_out_of_range", "steps"),
        ({"guidance_scale": float("nan")}, "value_out_of_range", "guidance_scale"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_video(
    mini: Pipeline, paint, words: dict, code: str, named: str
) -> None:
    paint(lambda asked: pytest.fail("a video was made"))
    with refused(code, named):
        evaluate(mini, **words)


def test_a_model_of_other_words_is_refused_before_any_video(mini: Pipeline, paint, tmp_path: Path) -> None:
    paint(lambda asked: pytest.fail("a video was made"))
    other = tiny_pipeline(write_tiny_folder(tmp_path / "tiny"))
    with refused("weights_wrong_vocabulary", "such as mini"):
        evaluate(other)
    with refused("weights_wrong_vocabulary"):
        benchmark(Contender(pipeline=mini), Contender(pipeline=other), count=1)
