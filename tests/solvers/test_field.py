"""Fields with a state and experts: what is evaluated, and whose memory is whose."""

from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.solvers.base import sample
from kinoform.solvers.experts import expert_choice, switched
from kinoform.solvers.field import Stateful, stateful
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import text_scale
from kinoform.solvers.levels import dpmpp_levels, level_at, unipc_levels
from kinoform.solvers.predictions import NEGATIVE, POSITIVE, predict_by
from kinoform.types import Field, Level
from tests.solvers.toy import SOLVERS, noise, wave

X = noise(5, 1, 4, 2, 3, 5)
LEVEL = level_at(0.6)


def logged(name: str, log: list[str], factor: float = 1.0) -> Stateful:
    """A field that writes its name down and remembers how often it was called."""

    def evaluate(x: Tensor, level: Level, field_state: Any) -> tuple[Tensor, int]:
        log.append(name)
        return factor * x, (field_state or 0) + 1

    return Stateful(evaluate)


def guided(scale: float, positive: Field, negative: Field) -> Stateful:
    return PlainGuidance().guide(predict_by({POSITIVE: positive, NEGATIVE: negative}), text_scale(scale), ())


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
            guided(2.0, logged("+", log), logged("-", log)),
            guided(1.0, logged("+", log), wave),
        ),
        expert_choice((0.5,), ()),
    )
    field_state = None
    for sigma in (0.9, 0.7, 0.3):
        _, field_state = whole.evaluate(X, level_at(sigma), field_state)
    assert field_state == (({POSITIVE: 2, NEGATIVE: 2}, None), ({POSITIVE: 1}, None))


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
    wrapped = switched((guided(3.0, wave, wave), stateful(wave)), expert_choice((0.7,), ()))
    pairs = zip(sample(solver, wrapped, X, levels), sample(solver, wave, X, levels), strict=True)
    assert all(torch.allclose(a.x, b.x, atol=1e-6) for a, b in pairs)
