"""On a nonlinear field whose solution is known, each solver's error falls at its order.

The runs lie inside a longer list, between sigma 0.8 and 0.2, and begin with exact predictions of the
levels before: so the low orders of the first and the last steps do not hide the one measured.
"""

import math

import pytest
import torch
from torch import Tensor

from kinoform.solvers.base import Solver, State
from kinoform.solvers.dpmpp import DPMSolver, heun
from kinoform.solvers.euler import Euler
from kinoform.solvers.unipc import Past, UniPC
from kinoform.types import Level

FIRST, LAST, BEFORE = 0.8, 0.2, 4
UNCORRECTED = frozenset(range(1000))


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, 1, -1)


def exact(sigma: float) -> Tensor:
    return column(math.sin(3 * sigma) + 0.5, math.exp(-2 * sigma))


def exact_velocity(sigma: float) -> Tensor:
    return column(3 * math.cos(3 * sigma), -2 * math.exp(-2 * sigma))


def field(x: Tensor, level: Level) -> Tensor:
    on = exact(level.sigma)
    return exact_velocity(level.sigma) + (x - on) + (x * x - on * on) / 2


def predictions(levels: tuple[Level, ...]) -> tuple[Tensor, ...]:
    """Of the levels before the run, the latest first."""
    before = [level.sigma for level in reversed(levels[:BEFORE])]
    return tuple(exact(sigma) - sigma * exact_velocity(sigma) for sigma in before)


def begin_euler(solver: Euler, x: Tensor, levels: tuple[Level, ...]) -> State:
    return solver.init(x)


def begin_dpm(solver: DPMSolver, x: Tensor, levels: tuple[Level, ...]) -> State:
    return State(x=x, x0=x, history=predictions(levels)[: solver.order - 1])


def begin_unipc(solver: UniPC, x: Tensor, levels: tuple[Level, ...]) -> State:
    anchor = exact(levels[BEFORE - 1].sigma)
    known = predictions(levels)[: solver.order]
    return State(x=x, x0=x, history=Past(anchor=anchor, predictions=known, order=solver.order))


def error(solver: Solver, begin, steps: int) -> float:
    width = (FIRST - LAST) / steps
    sigmas = [FIRST - width * k for k in range(-BEFORE, steps + BEFORE)]
    levels = tuple(Level(sigma=sigma, timestep=0.0) for sigma in sigmas)
    state = begin(solver, exact(FIRST), levels)
    for index in range(BEFORE, BEFORE + steps):
        state = solver.step(state, field, levels, index)
    return (state.x - exact(LAST)).abs().max().item()


# The corrector adds one order. DPM-Solver++ of order 3 counts half of the curvature (see DPMSolver).
@pytest.mark.parametrize(
    "solver,begin,order",
    [
        (Euler(), begin_euler, 1),
        (DPMSolver(order=1), begin_dpm, 1),
        (DPMSolver(order=2), begin_dpm, 2),
        (DPMSolver(order=2, second_order=heun), begin_dpm, 2),
        (DPMSolver(order=3), begin_dpm, 2),
        (UniPC(order=1, uncorrected=UNCORRECTED), begin_unipc, 1),
        (UniPC(order=2, uncorrected=UNCORRECTED), begin_unipc, 2),
        (UniPC(order=3, uncorrected=UNCORRECTED), begin_unipc, 3),
        (UniPC(order=1), begin_unipc, 2),
        (UniPC(order=2), begin_unipc, 3),
        (UniPC(order=3), begin_unipc, 4),
    ],
)
def test_error_falls_at_the_order(solver: Solver, begin, order: int) -> None:
    coarse, fine = error(solver, begin, 64), error(solver, begin, 128)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.12)


def test_higher_orders_are_nearer() -> None:
    dpm = [error(DPMSolver(order=order), begin_dpm, 32) for order in (1, 2, 3)]
    unipc = [error(UniPC(order=order), begin_unipc, 32) for order in (1, 2, 3)]
    assert dpm[0] > 3 * dpm[1] > 6 * dpm[2]
    assert unipc[0] > 3 * unipc[1] > 9 * unipc[2]
    assert all(corrected < plain for corrected, plain in zip(unipc, dpm, strict=True))
