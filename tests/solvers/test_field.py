"""Guidance and experts: the formulas, what is evaluated, and whose memory is whose."""

from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.solvers.base import sample
from kinoform.solvers.experts import expert_choice, switched
from kinoform.solvers.field import Stateful, cfg_pair, guided, stateful
from kinoform.solvers.levels import dpmpp_levels, level_at, unipc_levels
from kinoform.types import Level
from tests.solvers.toy import SOLVERS, noise, wave

X = noise(5, 1, 4, 2, 3, 5)
LEVEL = level_at(0.6)


def positive(x: Tensor, level: Level) -> Tensor:
    return 0.5 * x + level.sigma


def negative(x: Tensor, level: Level) -> Tensor:
    return x * x - 1


def logged(name: str, log: list[str], factor: float = 1.0) -> Stateful:
    """A field that writes its name down and remembers how often it was called."""

    def evaluate(x: Tensor, level: Level, field_state: Any) -> tuple[Tensor, int]:
        log.append(name)
        return factor * x, (field_state or 0) + 1

    return Stateful(evaluate)


def test_guidance_goes_past_the_positive_velocity() -> None:
    for scale in (0.0, 0.5, 1.0, 5.0):
        expected = negative(X, LEVEL) + scale * (positive(X, LEVEL) - negative(X, LEVEL))
        assert torch.allclose(guided(cfg_pair(positive, negative), scale)(X, LEVEL), expected, atol=1e-6)
    pair = guided(lambda x, level: (positive(x, level), negative(x, level)), 5.0)
    assert torch.equal(pair(X, LEVEL), guided(cfg_pair(positive, negative), 5.0)(X, LEVEL))


def test_guidance_is_computed_in_float32() -> None:
    """In bfloat16 the difference would be rounded, and then multiplied."""
    narrow = guided(cfg_pair(lambda x, _: x.bfloat16(), lambda x, _: (-0.3 * x).bfloat16()), 7.0)(X, LEVEL)
    assert narrow.dtype == torch.float32
    v, u = X.bfloat16().float(), (-0.3 * X).bfloat16().float()
    assert torch.equal(narrow, u + 7.0 * (v - u))


def test_at_scale_one_the_positive_is_evaluated_alone() -> None:
    log: list[str] = []
    pair = cfg_pair(logged("both+", log), logged("both-", log, 2.0))
    alone = guided(pair, 1.0, positive=logged("+", log))
    assert torch.equal(alone(X, LEVEL), X) and log == ["+"]
    log.clear()
    assert torch.equal(guided(pair, 1.0)(X, LEVEL), X) and log == ["both+", "both-"]


def test_scale_may_follow_the_level() -> None:
    log: list[str] = []
    field = guided(
        cfg_pair(logged("+", log), logged("-", log)),
        lambda level: 3.0 if level.sigma > 0.5 else 1.0,
        positive=logged("alone", log),
    )
    for sigma in (0.9, 0.4):
        field(X, level_at(sigma))
    assert log == ["+", "-", "alone"]


def test_experts_share_a_run_as_the_official_counts_say() -> None:
    for steps, shift, boundary, high in [(40, 12.0, 0.875, 26), (40, 5.0, 0.9, 15)]:
        for grid in (unipc_levels, dpmpp_levels):
            log: list[str] = []
            experts = switched((logged("high", log), logged("low", log, 0.5)), expert_choice((boundary,), ()))
            *_, last = sample(SOLVERS["unipc2"], experts, X, grid(steps, shift))
            assert log == ["high"] * high + ["low"] * (steps - high)
            assert last.field_state == (high, steps - high)


def test_the_truncated_timestep_chooses_the_expert() -> None:
    log: list[str] = []
    experts = switched((logged("high", log), logged("low", log)), expert_choice((0.875,), ()))
    level = dpmpp_levels(10, 3.0)[3]
    assert level.sigma == 0.875
    experts(X, level), experts(X, level_at(0.875))
    assert log == ["low", "high"]


def test_each_part_has_its_own_memory() -> None:
    log: list[str] = []
    whole = switched(
        (
            guided(cfg_pair(logged("+", log), logged("-", log)), 2.0),
            guided(cfg_pair(logged("+", log), wave), 1.0, positive=logged("alone", log)),
        ),
        expert_choice((0.5,), ()),
    )
    field_state = None
    for sigma in (0.9, 0.7, 0.3):
        _, field_state = whole.evaluate(X, level_at(sigma), field_state)
    assert field_state == (((2, 2), None), (None, 1))


def test_lifting() -> None:
    lifted = stateful(wave)
    velocity, field_state = lifted.evaluate(X, LEVEL, None)
    assert field_state is None and torch.equal(velocity, wave(X, LEVEL)) and torch.equal(lifted(X, LEVEL), velocity)
    assert stateful(lifted) is lifted


def test_called_plainly_a_field_begins_with_no_memory() -> None:
    field = Stateful(lambda x, level, field_state: (x * (field_state or 0), (field_state or 0) + 1))
    assert torch.equal(field(X, LEVEL), X * 0) and torch.equal(field(X, LEVEL), X * 0)
    velocity, field_state = field.evaluate(X, LEVEL, 2)
    assert torch.equal(velocity, X * 2) and field_state == 3


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_wrapped_fields_run_like_plain_ones(solver) -> None:
    levels = solver.levels(6, 5.0)
    wrapped = switched((guided(cfg_pair(wave, wave), 3.0), stateful(wave)), expert_choice((0.7,), ()))
    pairs = zip(sample(solver, wrapped, X, levels), sample(solver, wave, X, levels), strict=True)
    assert all(torch.allclose(a.x, b.x, atol=1e-6) for a, b in pairs)
