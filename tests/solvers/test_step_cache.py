"""Step caches: which steps are evaluated, and that the memory is a value."""

import pytest
import torch
from torch import Tensor

from kinoform.solvers.base import sample
from kinoform.solvers.cache import EasyCache, FixedIntervalCache, Rule, cached
from kinoform.solvers.experts import expert_choice, switched
from kinoform.solvers.field import Stateful
from kinoform.solvers.levels import level_at
from kinoform.solvers.unipc import UniPC
from kinoform.types import Level
from tests.solvers.toy import gap, noise, wave
from tests.support.refusals import refused

X = noise(7, 1, 4, 2, 3, 5)
LEVELS = UniPC().levels(12, 5.0)


def evaluated(rule: Rule, field=wave) -> tuple[list[int], Tensor]:
    """The steps at which `field` was looked at, and where the run ended."""
    seen: list[int] = []

    def looking(x: Tensor, level: Level) -> Tensor:
        seen.append(LEVELS.index(level))
        return field(x, level)

    *_, last = sample(UniPC(), cached(looking, rule), X, LEVELS)
    return seen, last.x


def test_every_period() -> None:
    assert evaluated(FixedIntervalCache(period=2))[0] == [0, 2, 4, 6, 8, 10]
    assert evaluated(FixedIntervalCache(period=3))[0] == [0, 3, 6, 9]
    inside = [step for step, level in enumerate(LEVELS[:-1]) if 0.6 <= level.sigma <= 0.95]
    seen, _ = evaluated(FixedIntervalCache(period=100, lowest=0.6, highest=0.95))
    assert seen == [step for step in range(12) if step not in inside]
    plain = evaluated(FixedIntervalCache(period=1))
    *_, last = sample(UniPC(), wave, X, LEVELS)
    assert plain[0] == list(range(12)) and torch.equal(plain[1], last.x)


def test_a_reused_velocity_is_the_last_one() -> None:
    field = cached(wave, FixedIntervalCache(period=2))
    first, field_state = field.evaluate(X, LEVELS[0], None)
    again, field_state = field.evaluate(X + 1, LEVELS[1], field_state)
    assert torch.equal(again, first)
    fresh, _ = field.evaluate(X + 1, LEVELS[1], field_state)
    assert torch.equal(fresh, wave(X + 1, LEVELS[1]))


def test_drift_reuses_what_does_not_change() -> None:
    """Two evaluations measure the rate; a constant velocity is never looked at again."""
    assert evaluated(EasyCache(limit=0.01), lambda x, level: torch.ones_like(x))[0] == [0, 1]
    assert evaluated(EasyCache(limit=0.0))[0] == list(range(12))
    assert evaluated(EasyCache(limit=0.0), lambda x, level: torch.ones_like(x))[0] == list(range(12))


def test_drift_trades_evaluations_for_error() -> None:
    *_, last = sample(UniPC(), wave, X, LEVELS)
    runs = [evaluated(EasyCache(limit=limit)) for limit in (0.0, 0.1, 0.4)]
    counts, gaps = [len(seen) for seen, _ in runs], [gap(x, last.x) for _, x in runs]
    assert counts[0] > counts[1] > counts[2] and gaps[0] == 0 < gaps[1] < gaps[2] < 0.5


def test_drift_expects_the_measured_rate() -> None:
    """For v = 2x the velocity moves by 2 per x: reused while 2·|dx| < limit·|v|."""
    field = cached(lambda x, level: 2 * x, EasyCache(limit=0.1))
    ones = torch.ones_like(X)
    _, field_state = field.evaluate(ones, LEVELS[0], None)
    _, field_state = field.evaluate(2 * ones, LEVELS[1], field_state)
    assert field_state.rate == pytest.approx(2)
    assert field.evaluate(2.19 * ones, LEVELS[2], field_state)[1].reuses == 1
    assert field.evaluate(2.21 * ones, LEVELS[2], field_state)[1].reuses == 0


def test_a_field_used_twice_shares_nothing() -> None:
    field = cached(wave, FixedIntervalCache(period=2))
    one, two = (list(sample(UniPC(), field, X, LEVELS)) for _ in range(2))
    assert all(torch.equal(a.x, b.x) for a, b in zip(one, two, strict=True))


def test_experts_do_not_reuse_each_other() -> None:
    rule = FixedIntervalCache(period=100)
    high, low = (lambda x, level: x), (lambda x, level: -x)
    choice = expert_choice((0.5,), ())
    alone = switched((cached(high, rule), cached(low, rule)), choice)
    for experts in (alone, cached(switched((high, low), choice), rule)):
        _, field_state = experts.evaluate(X, level_at(0.9), None)
        kept, field_state = experts.evaluate(2 * X, level_at(0.6), field_state)
        velocity, _ = experts.evaluate(X, level_at(0.3), field_state)
        assert torch.equal(kept, X) and torch.equal(velocity, -X)


def test_the_inner_memory_waits_while_the_cache_answers() -> None:
    inner = Stateful(lambda x, level, field_state: (wave(x, level), (field_state or 0) + 1))
    path = list(sample(UniPC(), cached(inner, FixedIntervalCache(period=4)), X, LEVELS))
    assert [step.field_state.inner for step in path] == [1] * 4 + [2] * 4 + [3] * 4


def test_impossible_rules_are_refused() -> None:
    with refused("value_out_of_range"):
        FixedIntervalCache(period=0)
    for limit in (-0.1, float("nan")):
        with refused("value_out_of_range"):
            EasyCache(limit=limit)
