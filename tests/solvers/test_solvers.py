"""What holds for every solver and for the loop that runs it."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from kinoform.solvers.base import Solver, State, Step, sample
from kinoform.solvers.dpmpp import DPMSolver
from kinoform.solvers.euler import Euler
from kinoform.solvers.field import Stateful
from kinoform.solvers.levels import dpmpp_levels, level_at, unipc_levels
from kinoform.solvers.unipc import UniPC
from kinoform.types import Field, Level
from tests.solvers.toy import SOLVERS, gap, noise, run, wave
from tests.support.refusals import refused

X = noise(0, 2, 3, 2, 2, 4)
every_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())


def same(ours: list[Step], theirs: list[Step]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(a.x, b.x) and torch.equal(a.x0, b.x0) and a.index == b.index for a, b in pairs)


def counting(field: Field) -> Stateful:
    """Its memory is the number of its calls."""
    return Stateful(lambda x, level, field_state: (field(x, level), (field_state or 0) + 1))


@every_solver
def test_one_step_is_the_data_prediction(solver: Solver) -> None:
    (step,) = run(solver, X, 1)
    level = solver.levels(1, 5.0)[0]
    assert torch.equal(step.x, X - level.sigma * wave(X, level))
    assert torch.equal(step.x, step.x0)


@every_solver
def test_the_last_step_returns_its_data_prediction(solver: Solver) -> None:
    for steps in (2, 3, 7, 16):
        last = run(solver, X, steps)[-1]
        assert torch.equal(last.x, last.x0) and last.level.sigma == 0


@every_solver
def test_a_straight_path_is_followed_exactly(solver: Solver) -> None:
    """With v = (x - video) / sigma, the flow towards one video, any number of steps ends at that video."""
    video = noise(1, *X.shape)
    for steps in (1, 2, 5, 16):
        path = run(solver, X, steps, field=lambda x, level: (x - video) / level.sigma)
        assert gap(path[-1].x, video) < 5e-6
        assert all(gap(step.x0, video) < 5e-6 for step in path)


@every_solver
def test_two_runs_are_equal(solver: Solver) -> None:
    assert same(run(solver, X, 9), run(solver, X, 9))


@every_solver
def test_samples_of_a_batch_are_independent(solver: Solver) -> None:
    together, alone = run(solver, X, 9), run(solver, X[1:], 9)
    assert all(gap(a.x[1:], b.x) < 2e-6 for a, b in zip(together, alone, strict=True))
    assert gap(together[-1].x[:1], alone[-1].x) > 1e-2


@every_solver
def test_any_number_of_steps_is_finite(solver: Solver) -> None:
    for grid in (unipc_levels, dpmpp_levels):
        for steps, shift in [(1, 5.0), (2, 5.0), (3, 5.0), (4, 5.0), (6, 5.0), (16, 0.2), (30, 16.0)]:
            *_, last = sample(solver, wave, X, grid(steps, shift))
            assert last.index == steps - 1 and torch.isfinite(last.x).all()


@every_solver
def test_a_run_from_the_middle_is_a_run_of_the_rest(solver: Solver) -> None:
    levels = solver.levels(9, 5.0)
    middle = list(sample(solver, wave, X, levels, start=4))
    if "uncorrected" not in {field.name for field in dataclasses.fields(solver)}:  # type: ignore
        rest = list(sample(solver, wave, X, levels[4:]))
        assert all(torch.equal(a.x, b.x) for a, b in zip(middle, rest, strict=True))
    assert [step.index for step in middle] == [4, 5, 6, 7, 8]
    assert [step.level for step in middle] == list(levels[5:])


@every_solver
def test_bfloat16_is_widened_once(solver: Solver) -> None:
    """Latents stay float32 whatever came in and whatever the network returns."""
    narrow = X.bfloat16()
    path = run(solver, narrow, 5, field=lambda x, level: wave(x, level).bfloat16())
    assert all(step.x.dtype == step.x0.dtype == torch.float32 for step in path)
    wide = run(solver, narrow.float(), 5, field=lambda x, level: wave(x, level).bfloat16().float())
    assert same(path, wide)


def test_euler_is_the_first_order() -> None:
    uncorrected = UniPC(order=1, uncorrected=frozenset(range(50)))
    for steps, shift in [(1, 1.0), (4, 5.0), (20, 3.0)]:
        for grid, solver in [(dpmpp_levels, DPMSolver(order=1)), (unipc_levels, uncorrected)]:
            levels = grid(steps, shift)
            x = X.double()
            paths = zip(sample(Euler(), wave, x, levels), sample(solver, wave, x, levels), strict=True)
            assert max(gap(a.x, b.x) for a, b in paths) < 1e-12
    assert gap(run(UniPC(order=1), X, 4)[-1].x, run(uncorrected, X, 4)[-1].x) > 1e-3


@every_solver
def test_kept_values_are_imposed_at_the_start_and_after_each_step(solver: Solver) -> None:
    """Frame 0 is held at a function of the level; frame 1, which no field mixes with it, is untouched."""
    levels, seen = solver.levels(6, 5.0), []

    def constrain(x: Tensor, level: Level) -> Tensor:
        return torch.cat([torch.full_like(x[:, :, :1], level.sigma), x[:, :, 1:]], dim=2)

    def field(x: Tensor, level: Level) -> Tensor:
        seen.append(bool((x[:, :, 0] == level.sigma).all()))
        return wave(x, level)

    path = list(sample(solver, field, X, levels, constrain=constrain))
    assert len(path) == 6 and seen == [True] * 6
    assert all((step.x[:, :, 0] == step.level.sigma).all() for step in path)
    free = run(solver, X, 6)
    assert all(gap(a.x[:, :, 1], b.x[:, :, 1]) < 2e-6 for a, b in zip(path, free, strict=True))


def test_steps_are_taken_only_when_asked_for() -> None:
    calls = []

    def field(x: Tensor, level: Level) -> Tensor:
        calls.append(level)
        return wave(x, level)

    steps = sample(UniPC(), field, X, unipc_levels(10, 5.0))
    assert len(calls) == 0
    next(steps), next(steps)
    assert len(calls) == 2


@dataclasses.dataclass(frozen=True)
class Midpoint:
    """A solver from outside the package: looks twice in a step, at a level off the grid."""

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        return dpmpp_levels(steps, shift)

    def init(self, x: Tensor) -> State[None]:
        return State(x=x, x0=x, history=None)

    def step(self, state: State[None], field: Field, levels: tuple[Level, ...], index: int) -> State[None]:
        a, b = levels[index].sigma, levels[index + 1].sigma
        half = state.x + (b - a) / 2 * field(state.x, levels[index])
        x = state.x + (b - a) * field(half, level_at((a + b) / 2))
        return State(x=x, x0=half, history=None)


def test_a_solver_may_look_twice() -> None:
    levels = Midpoint().levels(5, 5.0)
    path = list(sample(Midpoint(), counting(wave), X, levels))
    assert [step.field_state for step in path] == [2, 4, 6, 8, 10]
    assert isinstance(Midpoint(), Solver) and not isinstance(object(), Solver)
    assert all(isinstance(solver, Solver) for solver in SOLVERS.values())


def test_solvers_are_values() -> None:
    assert UniPC(order=3) == UniPC(order=3) != UniPC() and hash(DPMSolver()) == hash(DPMSolver())
    with pytest.raises(dataclasses.FrozenInstanceError):
        UniPC().order = 3  # type: ignore


@every_solver
def test_a_step_too_many_is_refused(solver: Solver) -> None:
    levels = solver.levels(4, 5.0)
    last = run(solver, X, 4)[-1]
    for index in (4, -1):
        with refused("value_out_of_range", f"step {index} "):
            solver.step(last.state, wave, levels, index)
        with refused("value_out_of_range", f"step {index} "):
            sample(solver, wave, X, levels, start=index)


def test_levels_that_do_not_fall_are_refused() -> None:
    """A shift so large that the first sigmas are one float32 would divide by zero later."""
    with refused("levels_not_falling", "step 0", "1.0 to 1.0"):
        sample(Euler(), wave, X, dpmpp_levels(4, 1e9))
    with refused("levels_not_falling"):
        sample(Euler(), wave, X, dpmpp_levels(4, 5.0)[::-1])


@pytest.mark.parametrize("order", [0, -1])
def test_orders_that_do_not_exist_are_refused(order: int) -> None:
    for kind in (UniPC, DPMSolver):
        with refused("value_out_of_range"):
            kind(order=order)
    with refused("value_out_of_range"):
        DPMSolver(order=4)


def test_gradients_pass_through_a_run() -> None:
    x = X.clone().requires_grad_()
    *_, last = sample(UniPC(order=3), wave, x, unipc_levels(6, 5.0))
    last.x.sum().backward()
    assert x.grad is not None and math.isfinite(x.grad.sum().item()) and x.grad.abs().min() > 0
