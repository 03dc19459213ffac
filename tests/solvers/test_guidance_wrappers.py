"""Rules of guidance: where the negative prompt counts, how it is scaled, and what is evaluated."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.solvers.base import sample
from kinoform.solvers.field import Stateful
from kinoform.solvers.guidance.interval import Interval
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Guidance, text_scale
from kinoform.solvers.guidance.zero_star import ZeroStar, projection
from kinoform.solvers.levels import dpmpp_levels, level_at
from kinoform.solvers.names import GUIDANCE, guidance_of, name_of
from kinoform.solvers.predictions import NEGATIVE, POSITIVE, predict_by
from kinoform.types import Level
from tests.solvers.toy import SOLVERS, noise
from tests.support.refusals import refused

X = noise(5, 2, 4, 2, 3, 5)
LEVELS = dpmpp_levels(10, 3.0)
RULES = {"cfg": PlainGuidance(), "interval": Interval(low=0.3, high=0.8), "zero-star": ZeroStar(zero_steps=2)}


def positive(x: Tensor, level: Level) -> Tensor:
    return 0.5 * x + level.sigma


def negative(x: Tensor, level: Level) -> Tensor:
    return torch.cos(x) - 1


def guide(rule: Guidance, scale: float, field: Callable[[Tensor, Level], Tensor] = positive) -> Stateful[Tensor]:
    return rule.guide(predict_by({POSITIVE: field, NEGATIVE: negative}), text_scale(scale), LEVELS)


def counted(log: list[str], name: str, field: Callable[[Tensor, Level], Tensor]) -> Stateful[Tensor]:
    def evaluate(x: Tensor, level: Level, field_state: Any) -> tuple[Tensor, int]:
        log.append(name)
        return field(x, level), (field_state or 0) + 1

    return Stateful(evaluate)


def evaluations(rule: Guidance, scale: float) -> list[str]:
    """Return what is evaluated at each level: `+-` both, `+` the positive alone, nothing where the velocity is 0."""
    found = []
    for level in LEVELS[:-1]:
        log: list[str] = []
        predict = predict_by({POSITIVE: counted(log, "+", positive), NEGATIVE: counted(log, "-", negative)})
        rule.guide(predict, text_scale(scale), LEVELS)(X, level)
        found.append("".join(log))
    return found


def test_plain_guidance_is_guidance() -> None:
    for scale in (0.0, 0.5, 1.0, 4.0):
        for level in LEVELS:
            expected = negative(X, level) + scale * (positive(X, level) - negative(X, level))
            assert torch.allclose(guide(PlainGuidance(), scale)(X, level), expected, atol=1e-6)
    assert torch.equal(guide(PlainGuidance(), 1.0)(X, LEVELS[2]), positive(X, LEVELS[2]))


def test_guidance_is_computed_in_float32() -> None:
    """Rounding the difference to bfloat16 would multiply the error."""
    predict = predict_by({POSITIVE: lambda x, _: x.bfloat16(), NEGATIVE: lambda x, _: (-0.3 * x).bfloat16()})
    narrow = PlainGuidance().guide(predict, text_scale(7.0), LEVELS)(X, LEVELS[0])
    assert narrow.dtype == torch.float32
    v, u = X.bfloat16().float(), (-0.3 * X).bfloat16().float()
    assert torch.equal(narrow, u + 7.0 * (v - u))


def test_what_the_scale_leaves_out_is_not_evaluated() -> None:
    for scale, expected in [(1.0, "+"), (0.0, "-"), (0.5, "+-"), (4.0, "+-")]:
        assert set(evaluations(PlainGuidance(), scale)) == {expected}


def test_scale_may_follow_the_level() -> None:
    log: list[str] = []
    predict = predict_by({POSITIVE: counted(log, "+", positive), NEGATIVE: counted(log, "-", negative)})
    scales = {"text": lambda level: 3.0 if level.sigma > 0.5 else 1.0}
    for index in (1, 8):
        PlainGuidance().guide(predict, scales, LEVELS)(X, LEVELS[index])
    assert log == ["+", "-", "+"]
    assert PlainGuidance().predictions(scales, LEVELS[8:]) == {POSITIVE}
    assert PlainGuidance().predictions(scales, LEVELS) == {POSITIVE, NEGATIVE}


def test_an_interval_guides_inside_and_evaluates_the_positive_alone_outside() -> None:
    rule = RULES["interval"]
    for level in LEVELS[:-1]:
        inside = 0.3 <= level.sigma <= 0.8
        assert torch.equal(guide(rule, 4.0)(X, level), guide(PlainGuidance(), 4.0 if inside else 1.0)(X, level))
    assert evaluations(rule, 4.0) == ["+-" if 0.3 <= level.sigma <= 0.8 else "+" for level in LEVELS[:-1]]
    assert {"+", "+-"} == set(evaluations(rule, 4.0)) and set(evaluations(rule, 1.0)) == {"+"}


def test_both_ends_of_an_interval_are_inside() -> None:
    low, high = LEVELS[7].sigma, LEVELS[2].sigma
    assert evaluations(Interval(low=low, high=high), 4.0) == ["+"] * 2 + ["+-"] * 6 + ["+"] * 2


def test_the_whole_range_is_plain_guidance() -> None:
    for level in LEVELS:
        assert torch.equal(guide(Interval(), 4.0)(X, level), guide(PlainGuidance(), 4.0)(X, level))


def test_the_scale_is_the_best_one_of_each_sample() -> None:
    v, u = noise(1, 3, 4, 2, 3, 5), noise(2, 3, 4, 2, 3, 5)
    best = projection(v, u)
    assert best.shape == (3, 1, 1, 1, 1)
    left = (v - best * u).flatten(1)
    assert torch.allclose((left * u.flatten(1)).sum(1), torch.zeros(3), atol=1e-4), "the rest is orthogonal"
    for change in (-0.01, 0.01):
        assert (((v - (best + change) * u).flatten(1)).norm(dim=1) > left.norm(dim=1)).all()
    assert torch.allclose(projection(2.5 * u, u), torch.full((3, 1, 1, 1, 1), 2.5))


def test_a_negative_velocity_of_zero_scales_nothing() -> None:
    zero = torch.zeros_like(X)
    assert torch.equal(projection(X, zero), torch.zeros(2, 1, 1, 1, 1))
    tiny = torch.full_like(X, 1e-30)
    assert torch.isfinite(projection(tiny, tiny)).all()


def test_the_scale_is_computed_in_float32() -> None:
    narrow = projection(X.bfloat16(), (X + 1).bfloat16())
    assert narrow.dtype == torch.float32
    assert torch.equal(narrow, projection(X.bfloat16().float(), (X + 1).bfloat16().float()))


def test_zero_star_is_guidance_past_the_scaled_negative() -> None:
    level, scale = LEVELS[4], 4.0
    v, u = positive(X, level), negative(X, level)
    s = ((v * u).flatten(1).sum(1) / (u * u).flatten(1).sum(1)).reshape(-1, 1, 1, 1, 1)
    found = guide(ZeroStar(), scale)(X, level)
    assert torch.allclose(found, (1 - scale) * s * u + scale * v, atol=1e-5)
    assert not torch.allclose(found, guide(PlainGuidance(), scale)(X, level), atol=1e-2)


def test_zero_star_agrees_with_plain_guidance_where_nothing_is_to_be_scaled() -> None:
    predict = predict_by({POSITIVE: positive, NEGATIVE: positive})
    same = ZeroStar(zero_steps=0).guide(predict, text_scale(4.0), LEVELS)
    assert torch.allclose(same(X, LEVELS[0]), positive(X, LEVELS[0]), atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_first_steps_stand_still_and_cost_nothing(count: int, scale: float) -> None:
    rule = ZeroStar(zero_steps=count)
    each = "+" if scale == 1 else "+-"
    assert evaluations(rule, scale) == [""] * count + [each] * (10 - count)
    if count:
        assert torch.equal(guide(rule, scale)(X, LEVELS[count - 1]), torch.zeros_like(X))
        steps = list(sample(SOLVERS["euler"], guide(rule, scale), X, LEVELS))
        assert all(torch.equal(step.x, X) for step in steps[:count]) and not torch.equal(steps[count].x, X)


def test_a_run_that_begins_later_is_not_held_up() -> None:
    steps = list(sample(SOLVERS["euler"], guide(ZeroStar(), 4.0), X, LEVELS, start=5))
    assert not torch.equal(steps[0].x, X)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_sample_of_a_batch_is_the_sample_alone(rule: Guidance) -> None:
    for level in (LEVELS[0], LEVELS[4], level_at(0.1)):
        both = guide(rule, 4.0)(X, level)
        assert all(torch.equal(both[i : i + 1], guide(rule, 4.0)(X[i : i + 1], level)) for i in range(len(X)))


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_every_solver_runs_with_every_rule(rule: Guidance, solver) -> None:
    steps = list(sample(solver, guide(rule, 2.0), X, LEVELS))
    assert all(torch.isfinite(step.x).all() for step in steps)
    assert all(not torch.equal(a.x, b.x) for a, b in pairwise(steps[2:]))


def test_memory_of_each_prediction_is_passed_on() -> None:
    log: list[str] = []
    for rule, expected in [(Interval(low=0.3, high=0.8), (3, 1)), (ZeroStar(zero_steps=2), (1, 1))]:
        predict = predict_by({POSITIVE: counted(log, "+", positive), NEGATIVE: counted(log, "-", negative)})
        field = rule.guide(predict, text_scale(3.0), LEVELS)
        field_state = None
        for level in (LEVELS[0], LEVELS[1], next(level for level in LEVELS if level.sigma < 0.7)):
            _, field_state = field.evaluate(X, level, field_state)
        assert field_state == ({POSITIVE: expected[0], NEGATIVE: expected[1]}, None)


NAMED = {
    "cfg": PlainGuidance(),
    "interval(low=0.2, high=0.9)": Interval(low=0.2, high=0.9),
    "interval(low=0.5)": Interval(low=0.5),
    "zero-star": ZeroStar(),
    "zero-star(zero_steps=0)": ZeroStar(zero_steps=0),
}


@pytest.mark.parametrize(("name", "rule"), NAMED.items(), ids=str)
def test_a_name_gives_the_rule_back(name: str, rule: Guidance) -> None:
    assert name_of(rule) == name and guidance_of(name) == rule
    assert isinstance(rule, Guidance)


def test_a_whole_number_stands_for_a_real_one() -> None:
    assert guidance_of("interval(low=0, high=1)") == Interval() == GUIDANCE["interval"]


@pytest.mark.parametrize(
    ("name", "code", "named"),
    [
        ("cfgg", "unknown_name", "'cfg'"),
        ("interval(0.2, 0.9)", "bad_value", "interval(low=0.2, high=0.9)"),
        ("interval(low=0.9, high=0.2)", "value_out_of_range", "0.9 to 0.2"),
        ("interval(low=-1)", "value_out_of_range", "-1.0"),
        ("interval(high=1e999)", "value_out_of_range", "inf"),
        ("interval(low=True)", "unknown_option", "low=True"),
        ("interval(low='0')", "unknown_option", "low='0'"),
        ("zero-star(zero_steps=-1)", "value_out_of_range", "zero_steps"),
        ("zero-star(zero_steps=1.0)", "unknown_option", "zero_steps=1.0"),
        ("cfg(scale=2)", "unknown_option", "scale=2"),
    ],
)
def test_other_text_is_refused_in_a_sentence(name: str, code: str, named: str) -> None:
    with refused(code, named):
        guidance_of(name)


def test_an_interval_of_no_numbers_is_refused() -> None:
    for low, high in [(float("nan"), 0.5), (0.5, float("nan")), (0.5, 0.5), (0.0, 1.5)]:
        with refused("value_out_of_range"):
            Interval(low=low, high=high)
