"""Rules and levels of few-step recipes: what a step does, which noises it takes, and which lists are refused."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from kinoform.solvers.euler import Euler
from kinoform.solvers.experts import (
    AtStep,
    BelowSigma,
    boundaries_as_json,
    boundary_from_json,
    check_boundaries,
    expert_at,
    expert_choice,
    ranges_of,
)
from kinoform.solvers.index_list import IndexList, IndexRenoise
from kinoform.solvers.level_grids import EvenToOne, LevelGrid, Listed, Nearest, Warped
from kinoform.solvers.names import LEVEL_GRIDS, levels_of, name_of, sampler_of
from kinoform.solvers.rcm import RCM, TrigFlow
from kinoform.solvers.renoise import Renoise
from kinoform.solvers.sampler import Run, Sampler
from kinoform.types import Field, Latents, Level, Velocity
from tests.support.refusals import refused
from tests.support.unchecked import unchecked

X, CLEAR = (torch.randn(1, 4, 2, 3, 5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))


def towards(clear: Tensor) -> Field:
    """The velocity of a network that knows the clean video: (x - x0) / sigma."""

    def velocity(x: Latents, level: Level) -> Velocity:
        return (x - clear) / level.sigma

    return velocity


def run_of(grid: LevelGrid, steps: int, drawn: list[Tensor], *, first: int = 0, start: Tensor | None = None) -> Run:
    generator = torch.Generator().manual_seed(5)

    def draw() -> Tensor:
        drawn.append(torch.randn(X.shape, generator=generator))
        return drawn[-1]

    return Run(
        solver=Euler(), field=towards(CLEAR), levels=grid.levels(steps, 5.0), first=first, noise=X, draw=draw,
        start=start,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sampler", "grid", "steps"),
    [
        (Renoise(), Warped(), 4),
        (Renoise(boundary=0.85), Warped(), 4),
        (IndexRenoise(), IndexList(), 4),
        (RCM(), TrigFlow(), 3),
        (RCM(ode=True), TrigFlow(), 4),
    ],
)
def test_every_rule_ends_at_the_video_that_is_seen_and_has_the_noise_of_each_level(
    sampler: Sampler, grid: LevelGrid, steps: int
) -> None:
    drawn: list[Tensor] = []
    made = list(sampler.steps(run_of(grid, steps, drawn)))
    assert all(torch.allclose(step.x0, CLEAR, atol=1e-4) and step.x0.dtype == torch.float32 for step in made)
    assert torch.equal(made[-1].x, made[-1].x0)
    assert len(drawn) == (0 if sampler == RCM(ode=True) else steps - 1)
    for step in made[:-1]:
        noise = (step.x - (1 - step.level.sigma) * CLEAR) / step.level.sigma
        assert 0.8 < noise.std() < 1.25


def test_noises_are_those_of_the_run_in_their_order() -> None:
    drawn: list[Tensor] = []
    made: Iterator[Tensor] = (step.x for step in Renoise().steps(run_of(Warped(), 4, drawn)))
    for level, x in zip(Warped().levels(4, 5.0)[1:-1], made, strict=False):
        assert torch.allclose(x, (1 - level.sigma) * CLEAR + level.sigma * drawn[-1], atol=1e-5)
    again: list[Tensor] = []
    list(Renoise().steps(run_of(Warped(), 4, again)))
    assert all(map(torch.equal, drawn, again)) and len(again) == 3


@pytest.mark.parametrize("sampler", [Renoise(), RCM()])
def test_a_video_to_begin_from_enters_at_its_level(sampler: Sampler) -> None:
    start = torch.zeros_like(X)
    seen: list[Tensor] = []
    run = run_of(Warped(), 4, [], first=2, start=start)
    field = run.field

    def noted(x: Latents, level: Level) -> Velocity:
        seen.append(x)
        return field(x, level)

    kept = Run(solver=run.solver, field=noted, levels=run.levels, first=2, noise=X, draw=run.draw, start=start)
    assert len(list(sampler.steps(kept))) == 2
    assert torch.allclose(seen[0], run.levels[2].sigma * X, atol=1e-6)


def test_the_network_is_told_the_levels_of_the_sources() -> None:
    def timesteps(grid: LevelGrid, steps: int, shift: float) -> list[float]:
        return [level.timestep for level in grid.levels(steps, shift)[:-1]]

    assert timesteps(Warped(), 4, 5.0)[1] == 937.5
    assert timesteps(Warped(), 4, 5.0) == timesteps(Euler(exact_timesteps=True), 4, 5.0)
    assert timesteps(Nearest(), 3, 8.0) == [1000.0, 757.0, 522.0]
    assert timesteps(TrigFlow(), 4, 5.0) == timesteps(TrigFlow(), 4, 1.0) == [988.0, 932.0, 852.0, 608.0]
    assert timesteps(Listed(), 2, 5.0) == [1000.0, 934.0]
    assert timesteps(EvenToOne(), 1, 5.0) == [1000.0] and timesteps(EvenToOne(), 8, 3.0)[-1] == pytest.approx(2.994012)
    assert [level.sigma for level in Nearest().levels(3, 8.0)[:-1]] == pytest.approx(
        [1.0, 0.756757, 0.521739], abs=1e-6
    )
    assert TrigFlow().levels(2, 5.0)[0].sigma < 0.99 < TrigFlow(sigma_max=200.0).levels(2, 5.0)[0].sigma


@pytest.mark.parametrize(
    ("grid", "steps"), [(Warped(), 5), (Nearest(), 4), (IndexList(), 3), (Listed(), 10), (TrigFlow(), 5)]
)
def test_lists_have_their_own_number_of_steps(grid: LevelGrid, steps: int) -> None:
    with refused("steps_not_taken"):
        grid.levels(steps, 5.0)


@pytest.mark.parametrize("grid", [Warped(), Listed(), Nearest(), IndexList(), EvenToOne()])
def test_a_shift_of_nothing_is_refused(grid: LevelGrid) -> None:
    steps = 3 if grid == Nearest() else 4
    with refused("value_out_of_range"):
        grid.levels(steps, 0.0)


def test_the_switch_is_at_a_timestep_a_step_or_a_sigma() -> None:
    levels = Warped().levels(4, 16.0)
    assert [round(level.timestep) for level in levels[:-1]] == [1000, 980, 941, 842]

    def experts(boundary: float | AtStep | BelowSigma) -> list[int]:
        return [*map(expert_choice((boundary,), levels), levels[:-1])]

    assert experts(0.875) == [0, 0, 0, 1] and experts(AtStep(step=2)) == [0, 0, 1, 1]
    assert experts(BelowSigma(sigma=0.95)) == [0, 0, 1, 1]
    half = Level(sigma=(levels[1].sigma + levels[2].sigma) / 2, timestep=0.0)
    assert expert_at(half, (AtStep(step=2),), levels) == 0, "a solver may look between two levels"
    assert ranges_of((0.9, 0.5)) == ((0.9, 1.0), (0.5, 0.9), (0.0, 0.5))
    for wrong in ((AtStep(step=4),), (AtStep(step=2), AtStep(step=2))):
        with refused("boundary_invalid"):
            check_boundaries(wrong, steps=4)
    with refused("boundary_invalid"):
        ranges_of((AtStep(step=2),))
    with refused("boundary_invalid"):
        BelowSigma(sigma=1.0)
    with refused("value_out_of_range"):
        AtStep(step=0)


def test_boundaries_are_written_and_read_again() -> None:
    boundaries = (0.9, AtStep(step=2), BelowSigma(sigma=0.5))
    written = boundaries_as_json(boundaries)
    assert written == [0.9, {"step": 2}, {"sigma": 0.5}]
    assert tuple(map(boundary_from_json, written)) == boundaries
    strange = [True, "0.9", [], {}, {"step": 2.5}, {"step": True}, {"sigma": "1"}, {"at": 1}, {"step": 1, "sigma": 0.5},
               {"sigma": float("nan")}, {"step": 10**5000}, None]  # fmt: skip
    assert not any(map(boundary_from_json, strange))
    for out in ({"step": -1}, {"step": 0}, {"sigma": 1.5}):
        with refused("value_out_of_range"):
            boundary_from_json(out)


NAMED = {
    "warped": Warped(),
    "warped(entries=(1000, 757, 522))": Warped(entries=(1000, 757, 522)),
    "warped(entries=(900.5, 10))": Warped(entries=(900.5, 10.0)),
    "trigflow(sigma_max=200.0, rounded=False)": TrigFlow(sigma_max=200.0, rounded=False),
    "index": IndexList(),
    "euler(exact_timesteps=True)": Euler(exact_timesteps=True),
}


@pytest.mark.parametrize(("name", "grid"), NAMED.items(), ids=NAMED)
def test_a_name_gives_the_levels_back(name: str, grid: LevelGrid) -> None:
    assert name_of(grid) == name and levels_of(name) == grid


def test_every_grid_and_rule_has_a_name() -> None:
    assert {name_of(grid) for grid in LEVEL_GRIDS.values()} == LEVEL_GRIDS.keys()
    for name in ("renoise", "renoise(boundary=0.875)", "rcm", "rcm(ode=True)", "index-renoise"):
        assert name_of(sampler_of(name)) == name


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("warpd", "unknown_name"),
        ("warped(entries=(1000, 1000))", "levels_not_falling"),
        ("warped(entries=(1001, 1))", "value_out_of_range"),
        ("warped(entries=(1000, 0))", "levels_not_falling"),
        ("warped(entries=())", "wrong_type"),
        ("warped(entries=('a',))", "wrong_type"),
        ("warped(entries=7)", "unknown_option"),
        ("index(entries=(0, 0))", "levels_not_falling"),
        ("index(entries=(0, 1.5))", "not_a_whole_number"),
        ("trigflow(sigma_max=1.0)", "value_out_of_range"),
    ],
)
def test_other_names_are_refused(name: str, code: str) -> None:
    with unchecked(), refused(code):
        levels_of(name)


@pytest.mark.parametrize("name", ["renoise(boundary=1.0)", "index-renoise(shift=0.0)"])
def test_rules_out_of_range_are_refused(name: str) -> None:
    with refused("value_out_of_range"):
        sampler_of(name)
