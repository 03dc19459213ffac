"""What an image shows is judged beside words where a side takes references; what videos take stands beside both."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from kinoform.conditions.standard_inputs import REFERENCE_IMAGES
from kinoform.evaluation.benchmark import ModelUnderTest, VideoKey, benchmark, default_tasks
from kinoform.evaluation.case import Case
from kinoform.evaluation.report import Report
from kinoform.evaluation.tables import Table, tables
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.render import render
from tests.support.refusals import refused

CASES = ["reference", "no reference", "other reference"]
Seen = list[tuple[str, int, bool]]


@pytest.fixture
def seeing(paint: Callable, lossless: None) -> Seen:
    """Videos show what they are told: all that words say, and of an image's object nothing without the image."""
    seen: Seen = []

    def painted(case: Case) -> np.ndarray:
        given = REFERENCE_IMAGES in case.inputs
        seen.append((case.prompt, case.seed, given))
        frames = render(case.target)
        if case.joint and not given:
            frames[:] = frames[0, 0, 0]
        return frames

    paint(painted)
    return seen


def judged(
    first: Pipeline, other: Pipeline | None = None, *, levels: tuple[str, ...] = ("L1",), count: int = 1
) -> Report:
    sides = [ModelUnderTest(pipeline=each) for each in (first, other) if each is not None]
    return benchmark(sides[0], sides[1:], default_tasks(sides, levels), count=count)


def rows(table: Table) -> dict[str, tuple[str, ...]]:
    return {name: tuple(cells) for name, *cells in table.rows}


def test_both_sides_are_told_the_same_but_for_what_one_does_not_take(
    mini: Pipeline, factorized: Pipeline, seeing: Seen
) -> None:
    found = judged(factorized, mini, count=2)
    first, other = seeing[:10], seeing[10:]
    assert [each[:2] for each in first] == [each[:2] for each in other]
    assert [given for *_, given in first] == [False] * 4 + [True, False, True] * 2
    assert not any(given for *_, given in other)
    assert [case.name for case in found.first.cases] == ["L1 seen", "L1 held-out", *CASES]
    assert [case.left_out for case in found.others[0].cases] == [(), (), ("references",), (), ("references",)]
    for name in CASES:
        for mark in ("identity", "colour", "shape"):
            each = found.differences[0][name][mark]
            assert each.difference == (0 if name == "no reference" else -1) and each.trials == 2, (name, mark)
            assert each.low < each.high
    assert all(
        each.difference == 0 for split in ("seen", "held-out") for each in found.differences[0][f"L1 {split}"].values()
    )
    plain = json.loads(json.dumps(found.as_json()))
    assert [case["name"] for case in plain["cases"]][2:] == CASES
    assert (plain["model"], plain["others"][0]["model"]) == ("mini-factorized", "mini")


@pytest.mark.parametrize(("sides", "expected"), [("m", False), ("f", True), ("mf", True)])
def test_identity_is_judged_where_a_side_takes_references(
    mini: Pipeline, factorized: Pipeline, sides: str, expected: bool
) -> None:
    models = [ModelUnderTest(pipeline={"m": mini, "f": factorized}[side]) for side in sides]
    names = [task.name for task in default_tasks(models, ["L1"])]
    assert names == ["L1 seen", "L1 held-out"] + ["identity"] * expected


def test_identity_has_the_level_of_its_scenes(factorized: Pipeline) -> None:
    side = ModelUnderTest(pipeline=factorized)
    assert [task.name for task in default_tasks([side], ["L2"])] == ["L2 seen", "L2 held-out"]
    assert [task.name for task in default_tasks([side], ["L2", "L1"])][-1] == "identity"
    with refused("unknown_name", "'L4'"):
        default_tasks([side], ["L4", "L1"])


def test_tables_say_what_videos_take(mini: Pipeline, factorized: Pipeline, seeing: Seen) -> None:
    found = judged(factorized, mini)
    seen, _, reference, without, _ = tables(found)
    assert seen.heading == ("", "mini-factorized", "mini", "difference")
    flops = [side.cases[0].flops for side in found.sides]
    assert None not in flops
    assert rows(seen)["GFLOP a video"] == (*(f"{each.total / 1e9:.2f}" for each in flops if each), "")
    assert rows(seen)["transformer GFLOP"][0] == f"{flops[0].transformer / 1e9:.2f}" if flops[0] else False
    assert all(float(cell) >= 0 for cell in rows(seen)["seconds a video"][:2])
    assert "mini takes no references" in reference.title and "takes no" not in without.title
    shown, hidden = rows(reference)["GFLOP a video"], rows(without)["GFLOP a video"]
    assert float(shown[0]) > float(hidden[0]) == float(rows(seen)["GFLOP a video"][0])
    assert shown[1] == hidden[1], "what is not handed over takes nothing"


def test_operations_that_one_side_does_not_tell_are_a_dash(mini: Pipeline, seeing: Seen) -> None:
    found = judged(mini, mini)
    silent = replace(found.first, cases=tuple(replace(case, flops=None) for case in found.first.cases))
    first, *_ = tables(replace(found, first=silent))
    assert rows(first)["GFLOP a video"][0] == "-" != rows(first)["GFLOP a video"][1]
    alone, *_ = tables(Report(first=silent))
    assert "GFLOP a video" not in rows(alone)


@pytest.mark.usefixtures("lossless")
def test_a_reference_reaches_the_model_that_takes_it(mini: Pipeline, factorized: Pipeline) -> None:
    videos: dict[tuple[int, str], np.ndarray] = {}

    def on_video(key: VideoKey, case: Case, video: Video) -> None:
        videos[key.side, key.case] = video.frames

    first, other = (ModelUnderTest(pipeline=each, changes={"steps": 1}) for each in (factorized, mini))
    identity = [task for task in default_tasks([first], ["L1"]) if task.name == "identity"]
    benchmark(first, [other], identity, count=1, on_video=on_video)
    assert not np.array_equal(videos[0, "reference"], videos[0, "no reference"])
    assert not np.array_equal(videos[0, "reference"], videos[0, "other reference"])
    assert all(np.array_equal(videos[1, name], videos[1, "no reference"]) for name in CASES), "it sees no images"
