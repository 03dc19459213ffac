"""Solvers against recorded trajectories, and against the official formulas wherever those are finite."""

from itertools import product

import pytest
import torch

from kinoform.solvers.base import Solver, State, sample
from kinoform.solvers.dpmpp import DPMSolver, heun
from kinoform.solvers.levels import dpmpp_levels
from kinoform.solvers.unipc import UniPC
from tests.solvers import official
from tests.solvers.toy import gap, noise, run, wave

# Solver, steps, shift, the first value after each step, all four values at the end.
RECORDED = [
    (UniPC(), 4, 5.0, "1.559045 1.575962 1.620329 1.763708", "1.763708 -0.233749 -0.263394 -0.189166"),
    (
        UniPC(),
        10,
        3.0,
        "1.555745 1.561853 1.569916 1.580222 1.593719 1.611578 1.635583 1.668532 1.715232 1.780440",
        "1.780440 -0.082525 -0.080077 -0.085928",
    ),
    (DPMSolver(), 4, 5.0, "1.559031 1.574883 1.618664 1.764466", "1.764466 -0.222515 -0.254101 -0.179409"),
    (
        DPMSolver(),
        10,
        3.0,
        "1.555735 1.561496 1.569315 1.579574 1.593079 1.611008 1.635141 1.668288 1.715250 1.780470",
        "1.780470 -0.082319 -0.079860 -0.085778",
    ),
]
GRIDS = [*product((1, 2, 3, 4, 5, 6), (1.0, 5.0, 16.0)), (14, 3.0), (15, 3.0), (20, 16.0)]
X = noise(3, 1, 2, 1, 2, 4).double()


def worst(solver: Solver, path: list[torch.Tensor], steps: int, shift: float, start: int = 0) -> float:
    ours = run(solver, X, steps, shift, start=start)
    return max(gap(step.x, theirs) for step, theirs in zip(ours, path, strict=True))


@pytest.mark.parametrize("solver,steps,shift,path,end", RECORDED)
def test_recorded_trajectories(solver: Solver, steps: int, shift: float, path: str, end: str) -> None:
    steps_taken = run(solver, noise(14, 1, 1, 1, 1, 4), steps, shift)
    first = torch.stack([step.x.flatten()[0] for step in steps_taken])
    assert torch.allclose(first, torch.tensor([float(word) for word in path.split()]), atol=3e-6)
    final = torch.tensor([float(word) for word in end.split()])
    assert torch.allclose(steps_taken[-1].x.flatten(), final, atol=3e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_unipc_equals_the_formulas(order: int) -> None:
    solver = UniPC(order=order)
    for steps, shift in GRIDS:
        levels = solver.levels(steps, shift)
        assert worst(solver, official.unipc(wave, X, levels, order), steps, shift) < 1e-9


@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpm_solver_equals_the_formulas(order: int) -> None:
    solver = DPMSolver(order=order)
    for steps, shift in GRIDS:
        levels = tuple(solver.levels(steps, shift))
        assert worst(solver, official.dpmpp(wave, X, levels, order), steps, shift) < 1e-9


def test_heun_equals_the_formulas() -> None:
    solver = DPMSolver(second_order=heun)
    for steps, shift in GRIDS:
        levels = solver.levels(steps, shift)
        assert worst(solver, official.dpmpp(wave, X, levels, 2, heun=True), steps, shift) < 1e-9
    assert gap(run(solver, X, 10)[-1].x, run(DPMSolver(), X, 10)[-1].x) > 1e-4


@pytest.mark.parametrize("order", [1, 2, 3])
def test_begun_in_the_middle(order: int) -> None:
    """Warm-up counts the steps taken, the end rules count from the head of the list."""
    for steps, start in [(10, 3), (10, 9), (20, 5), (20, 17)]:
        unipc, dpm = UniPC(order=order), DPMSolver(order=order)
        path = official.unipc(wave, X, unipc.levels(steps, 5.0), order, start=start)
        assert worst(unipc, path, steps, 5.0, start) < 1e-9
        path = official.dpmpp(wave, X, dpm.levels(steps, 5.0), order, start=start)
        assert worst(dpm, path, steps, 5.0, start) < 1e-9


def test_uncorrected_steps() -> None:
    """An entry switches off the correction of that step's result and nothing else."""
    corrected = run(UniPC(order=3), X, 8)
    for skipped in ({0}, {2, 3}, {5}):
        solver = UniPC(order=3, uncorrected=frozenset(skipped))
        path = official.unipc(wave, X, solver.levels(8, 5.0), 3, uncorrected=frozenset(skipped))
        assert worst(solver, path, 8, 5.0) < 1e-9
        assert gap(run(solver, X, 8)[-1].x, corrected[-1].x) > 1e-6
    # The last correction, of step 6, is not seen either: the last step returns its data prediction.
    for without_effect in ({6}, {7}, {8, 100}, {-1}):
        ours = run(UniPC(order=3, uncorrected=frozenset(without_effect)), X, 8)
        assert all(torch.equal(a.x, b.x) for a, b in zip(ours, corrected, strict=True))


def test_repeated_timesteps_are_ordinary_steps() -> None:
    """The official code looks the first step up by its timestep, takes the second and dies at the end."""
    levels = UniPC().levels(68, 16.0)
    assert levels[0].timestep == levels[1].timestep
    assert worst(UniPC(), official.unipc(wave, X, levels, 2), 68, 16.0) < 1e-9


@pytest.mark.parametrize("order", [1, 2])
def test_unipc_from_pure_noise_equals_the_formulas(order: int) -> None:
    for steps in (1, 2, 3, 10):
        levels = dpmpp_levels(steps, 5.0)
        ours = sample(UniPC(order=order), wave, X, levels)
        theirs = official.unipc(wave, X, levels, order)
        assert max(gap(step.x, x) for step, x in zip(ours, theirs, strict=True)) < 1e-9


@pytest.mark.parametrize(
    "order,steps,orders",
    [
        *[(1, 1, "1"), (1, 5, "11111")],
        *[(2, 1, "1"), (2, 2, "11"), (2, 3, "121"), (2, 4, "1221"), (2, 20, "1" + "2" * 18 + "1")],
        *[(3, 2, "11"), (3, 3, "121"), (3, 4, "1221"), (3, 5, "12321"), (3, 6, "123321")],
        (3, 20, "12" + "3" * 16 + "21"),
    ],
)
def test_unipc_orders_rise_and_fall(order: int, steps: int, orders: str) -> None:
    assert "".join(str(step.state.history.order) for step in run(UniPC(order=order), X, steps)) == orders


@pytest.mark.parametrize(
    "order,steps,orders",
    [
        *[(2, 1, "1"), (2, 2, "11"), (2, 3, "121"), (2, 20, "1" + "2" * 18 + "1")],
        *[(3, 3, "121"), (3, 4, "1221"), (3, 5, "12321"), (3, 14, "12" + "3" * 10 + "21")],
        *[(3, 15, "12" + "3" * 12 + "1"), (3, 20, "12" + "3" * 17 + "1")],
    ],
)
def test_dpm_solver_orders(order: int, steps: int, orders: str) -> None:
    """The order of a step is one more than the number of earlier predictions that its result depends on."""
    solver = DPMSolver(order=order)
    levels = UniPC().levels(steps, 5.0)  # finite lambda from the start
    state, found = solver.init(X), ""
    for index in range(steps):
        following = solver.step(state, wave, levels, index)
        depends = 0
        for place in range(len(state.history)):
            moved = tuple(m + (k == place) for k, m in enumerate(state.history))
            other = solver.step(State(x=state.x, x0=state.x0, history=moved), wave, levels, index)
            depends += not torch.equal(other.x, following.x)
        found += str(depends + 1)
        state = following
    assert found == orders
