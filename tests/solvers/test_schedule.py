"""Numbers that change during a run: where each piece holds, what is refused, and that what is written is read."""

import itertools
import json
import random
from typing import Any

import pytest

from kinoform.solvers.euler import Euler
from kinoform.solvers.scales import CONDITIONS, GuidanceScales, guidance_scales, read_scales, scales_from_json
from kinoform.solvers.schedule import (
    RunSchedule,
    SchedulePiece,
    StepShare,
    TimestepRange,
    Varying,
    along,
    changes,
    fixed,
    values_of,
)
from kinoform.solvers.unipc import UniPC
from kinoform.solvers.varying_text import number_as_json, number_from_json, read_entries, read_schedule, written_entries
from kinoform.types import CLEAN, Level
from tests.support.refusals import refused
from tests.support.unchecked import unchecked

LEVELS = Euler(exact_timesteps=True).levels(10, 5.0)


def read(text: str) -> Varying:
    return read_entries("--lora", text)[""]


def test_shares_are_half_open_and_the_last_is_closed() -> None:
    schedule = read("0@0-0.3,1@0.3-0.95,2@0.95-1")
    assert values_of(schedule, LEVELS) == (0, 0, 0, 1, 1, 1, 1, 1, 1, 1)
    assert values_of(schedule, UniPC().levels(50, 3.0)) == (0,) * 15 + (1,) * 33 + (2,) * 2
    assert changes(schedule, LEVELS) == {3} and changes(1.0, LEVELS) == frozenset()
    assert along(schedule, LEVELS)(CLEAN) == 1, "the last step, that has begun"


def test_timesteps_are_divided_as_between_experts() -> None:
    schedule = read("1@t900-1000,0@t0-900")
    levels = tuple(Level(sigma=t / 1000, timestep=t) for t in (1000.0, 950.0, 900.0, 899.0, 0.0))
    assert values_of(schedule, levels) == (1, 1, 1, 0)
    assert schedule == read("0@t0-900,1@t900-1000"), "one value, whatever the order in which it was said"


def test_a_level_between_two_of_the_list_belongs_to_the_step_that_it_lies_in() -> None:
    at = along(read("0@0-0.1,1@0.1-1"), LEVELS)
    first, second = LEVELS[:2]
    inside = Level(sigma=(first.sigma + second.sigma) / 2, timestep=0.0)
    assert [at(level) for level in (Level(sigma=1.0, timestep=1000.0), first, inside, second)] == [0, 0, 0, 1]


def test_a_function_of_the_level_is_written_as_the_schedule_that_it_was() -> None:
    def half(level: Level) -> float:
        return 0.5 if level.sigma > 0.9 else 1.0

    schedule = fixed(half, LEVELS)
    assert values_of(schedule, LEVELS) == values_of(half, LEVELS)
    assert isinstance(schedule, RunSchedule) and len(schedule.pieces) == 2
    assert read(written_entries([("", schedule)])) == schedule
    assert fixed(lambda level: 2.0, LEVELS) == read("2@0-1") and fixed(schedule, LEVELS) is schedule


def anything(draw: random.Random) -> Varying:
    """Return a number, or a schedule of one to four pieces with bounds and numbers of any length."""
    if draw.random() < 0.3:
        return draw.choice([0.0, 4.0, draw.uniform(0, 100), 1e-7])
    cuts = sorted({draw.uniform(0, 1) ** 3 for _ in range(draw.randrange(4))} - {0.0, 1.0})
    bounds = [0.0, *cuts, 1.0]
    scale = draw.choice([1, 1000])
    spans = [
        StepShare(start=a, end=b) if scale == 1 else TimestepRange(low=1000 * a, high=1000 * b)
        for a, b in itertools.pairwise(bounds)
    ]
    return RunSchedule(pieces=tuple(SchedulePiece(value=draw.uniform(0, 9) ** 2, span=span) for span in spans))


@pytest.mark.parametrize("experts", [1, 2, 3])
def test_what_is_written_is_read(experts: int) -> None:
    draw = random.Random(experts)
    for _ in range(50):
        number = anything(draw)
        assert read(written_entries([("", number)])) == number
        assert number_from_json("strength", json.loads(json.dumps(number_as_json(number)))) == number
        scales = any_scales(draw, experts)
        assert guidance_scales(read_scales("--guidance", scales.written()), experts) == scales
        told = json.loads(json.dumps(scales.as_json()))
        assert guidance_scales(scales_from_json("guidance_scale", told), experts) == scales


def any_scales(draw: random.Random, experts: int) -> GuidanceScales:
    if draw.random() < 0.2:
        return guidance_scales(anything(draw), experts)
    conditions = ["text", *(name for name in CONDITIONS[1:] if draw.random() < 0.5)]
    said: dict[str, object] = {name: anything(draw) for name in conditions}
    for expert in ("high", "low") if experts == 2 else map(str, range(1, experts + 1)) if experts > 1 else ():
        if draw.random() < 0.5:
            said[expert] = {name: anything(draw) for name in conditions if draw.random() < 0.6} or anything(draw)
    return guidance_scales(said, experts)


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("0@0-0.3,1@0.4-1", "schedule_gap", "0.3-0.4"),
        ("0@0.1-1", "schedule_gap", "0-0.1"),
        ("1@t900-1000", "schedule_gap", "t0-900"),
        ("0@0-0.5,1@0.3-1", "schedule_overlap", "0.3-0.5"),
        ("0@0-1,1@0.2-0.3", "schedule_overlap", "0.2-0.3"),
        ("nan@0-1", "value_out_of_range", "nan"),
        ("inf@0-0.5,1@0.5-1", "value_out_of_range", "inf"),
        ("1@nan-1", "bad_value", "nan"),
        ("1@0-1.5", "value_out_of_range", "1.5"),
        ("1@t0-1001", "value_out_of_range", "1001"),
        ("1@0.5-0.5", "value_out_of_range", "0.5-0.5"),
        ("1@1-0", "value_out_of_range", "1-0"),
        ("0@0-0.5,1@t0-500", "bad_value", "0@0-0.5,1@t0-500"),
        ("1@", "bad_value", "1@"),
        ("1@0.5", "bad_value", "1@0.5"),
        ("@0-1", "bad_value", "@0-1"),
        ("1@0-0.5,2", "said_twice", "1@0-0.5,2"),
        ("high=1@0-1,2", "bad_value", "high=1@0-1,2"),
        ("high=1@0-0.5", "schedule_gap", "0.5-1"),
        ("low=3,low=4", "said_twice", "low"),
        ("4,3", "expert_not_said", "4,3"),
    ],
)
def test_schedules_that_do_not_hold_are_refused(text: str, code: str, named: str) -> None:
    with refused(code, "--guidance", named):
        read_scales("--guidance", text)


def test_scales_of_experts_and_conditions() -> None:
    scales = guidance_scales(read_scales("--guidance", "text=4,images=4.5,video=1.25,low.text=3.2"), 2)
    assert scales.of_expert(0) == {"text": 4.0, "images": 4.5, "video": 1.25}
    assert scales.of_expert(1) == {"text": 3.2, "images": 4.5, "video": 1.25}
    assert scales == guidance_scales({"low": {"text": 3.2}, "text": 4, "images": 4.5, "video": 1.25}, 2)
    assert scales == guidance_scales({"low": 3.2, "text": 4, "images": 4.5, "video": 1.25}, 2)
    assert guidance_scales({"low": 3, "high": 4}, 2).as_json() == {"high": 4.0, "low": 3.0}
    assert guidance_scales(4, 2).as_json() == 4.0 and guidance_scales({"text": 4}, 1) == guidance_scales(4, 1)
    phases = guidance_scales(read_scales("--guidance", "high=3.5@0-0.2,high=1@0.2-1,low=1"), 2)
    assert [scale(LEVELS[1]) for scale in phases.along(0, LEVELS).values()] == [3.5]
    assert [scale(LEVELS[2]) for scale in phases.along(0, LEVELS).values()] == [1.0]
    assert phases.of_expert(1) == {"text": 1.0}


@pytest.mark.parametrize(
    ("value", "experts", "code", "named"),
    [
        ({"high": 4, "low": 3}, 1, "one_transformer", "guidance_scale"),
        ({"low.text": 4}, 1, "one_transformer", "guidance_scale"),
        ({"text": 4, "sound": 3}, 1, "unknown_name", "sound"),
        ({"text": 4, "text.high": 3}, 2, "unknown_expert", "text.high"),
        ({"text": 4, "middle": 3}, 2, "unknown_expert", "middle"),
        ({"images": 4}, 1, "expert_missing", "text"),
        ({"high": 4}, 2, "expert_missing", "low"),
        ({"text": 4, "low.images": 3}, 2, "expert_missing", "high.images"),
        ({"low": 3, "low.text": 3, "high": 1}, 2, "said_twice", "low.text"),
        ({"text": 4, "images": float("nan")}, 1, "value_out_of_range", "images"),
        (read("4@0-0.5,101@0.5-1"), 1, "value_out_of_range", "0.5-1"),
        ({"text": "4"}, 1, "wrong_type", "text"),
        ((4, 3), 2, "expert_not_said", "(4, 3)"),
        ({}, 2, "expert_missing", "high"),
    ],
)
def test_scales_that_no_model_has_are_refused(value: object, experts: int, code: str, named: str) -> None:
    with refused(code, named):
        guidance_scales(value, experts)


def test_a_function_that_gives_no_scale_is_refused_with_its_step() -> None:
    scales = guidance_scales(lambda level: 4.0 if level.timestep > 900 else float("nan"), 1)
    with refused("value_out_of_range", "step 5", "nan"):
        scales.check_along(LEVELS)


def test_a_schedule_is_read_from_text_alone() -> None:
    others: tuple[Any, ...] = (None, 5, b"1@0-1")
    for other in others:
        with refused("wrong_type"), unchecked():
            read_schedule(other)
