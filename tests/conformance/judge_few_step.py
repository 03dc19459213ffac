"""Few-step rules on analytic velocities of two experts, by the levels, samplers and switches of the recipes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from kinoform.solvers.base import Solver, Step
from kinoform.solvers.euler import Euler
from kinoform.solvers.experts import AtStep, BelowSigma, Boundary, expert_choice, switched
from kinoform.solvers.index_list import IndexList, IndexRenoise
from kinoform.solvers.level_grids import EvenToOne, LevelGrid, Nearest, Warped, nearest_sigma
from kinoform.solvers.levels import TIMESTEPS
from kinoform.solvers.rcm import RCM, TrigFlow
from kinoform.solvers.renoise import Renoise
from kinoform.solvers.sampler import Denoise, Run, Sampler
from kinoform.solvers.schedule import RunSchedule, SchedulePiece, TimestepRange, values_of
from kinoform.types import Field, Latents, Level, Velocity
from tests.conformance.golden import Golden

EXACT = Euler(exact_timesteps=True)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The levels of a run but for the clean end, the latents before each step, and the steps."""

    levels: tuple[Level, ...]
    x_in: Tensor
    steps: tuple[Step, ...]

    @property
    def timesteps(self) -> Tensor:
        return torch.tensor([level.timestep for level in self.levels], dtype=torch.float64)

    @property
    def sigmas(self) -> Tensor:
        return torch.tensor([level.sigma for level in self.levels])

    @property
    def x(self) -> Tensor:
        return torch.cat([step.x for step in self.steps])

    @property
    def x0(self) -> Tensor:
        return torch.cat([step.x0 for step in self.steps])


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Velocities a x + b sin(w t / 1000) of a file."""

    golden: Golden

    def of(self, expert: str) -> Field:
        a, b, w = (self.golden.inputs[f"{expert}.{name}"] for name in "abw")

        def velocity(x: Latents, level: Level) -> Velocity:
            return a * x + b * torch.sin(w * level.timestep / 1000)

        return velocity

    def both(self, choice: Callable[[Level], int]) -> Field:
        return switched((self.of("high"), self.of("low")), choice)

    def run(
        self, sampler: Sampler, field: Field, levels: tuple[Level, ...], *, start: str = "x0", noise: str = ""
    ) -> Trace:
        given = iter(self.golden.inputs[f"{noise}.noise"]) if noise else iter(())
        seen: list[Tensor] = []

        def noted(x: Latents, level: Level) -> Velocity:
            seen.append(x)
            return field(x, level)

        run = Run(
            solver=EXACT, field=noted, levels=levels, first=0,
            noise=self.golden.inputs[start][None], draw=lambda: next(given)[None],
        )  # fmt: skip
        steps = tuple(sampler.steps(run))
        return Trace(levels=levels[:-1], x_in=torch.cat(seen), steps=steps)


def judge(golden: Golden) -> dict[str, Tensor]:
    fields = Fields(golden=golden)
    parts = (_lightx2v, _fastwan, _turbo, _self_forcing, _index, _causal, _phases)
    return {f"out.{name}": value for part in parts for name, value in part(fields, golden.config)}


def _experts(trace: Trace, choice: Callable[[Level], int]) -> Tensor:
    return torch.tensor([1 - choice(level) for level in trace.levels])


def _lightx2v(fields: Fields, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, case in config["lightx2v"].items():
        levels = Warped(entries=tuple(case["list"])).levels(4, case["shift"])
        choice = expert_choice((AtStep(step=case["switch"]),), levels)
        trace = fields.run(Denoise(), fields.both(choice), levels)
        yield f"lightx2v.{name}.expert", _experts(trace, choice)
        yield from _told(f"lightx2v.{name}", trace, "timesteps", "sigmas", "x")


def _fastwan(fields: Fields, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    entries, low = tuple(config["fastwan"]["steps"]), fields.of("low")
    shifts = {"raw": config["fastwan"]["shift"], "warp": config["fastwan"]["warp_shift"]}
    grids: dict[str, LevelGrid] = {"raw": Nearest(entries=entries), "warp": Warped(entries=entries)}
    for name, grid in grids.items():
        trace = fields.run(Renoise(), low, grid.levels(3, shifts[name]), noise="fastwan")
        yield from _told(f"fastwan.{name}", trace, "timesteps", "sigmas", "x0", "x_in")


def _turbo(fields: Fields, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, case in config["turbo"].items():
        grid = TrigFlow(sigma_max=float(case["sigma_max"]), rounded=False)
        levels = grid.levels(case["steps"], 5.0)
        boundaries: tuple[Boundary, ...] = (BelowSigma(sigma=0.9),) if case["task"] == "i2v" else (0.9999,)
        choice = expert_choice(boundaries, levels)
        trace = fields.run(RCM(ode=case["ode"]), fields.both(choice), levels, start="turbo.start", noise="turbo")
        rounded = TrigFlow(sigma_max=float(case["sigma_max"])).levels(case["steps"], 5.0)[:-1]
        yield f"turbo.{name}.expert", _experts(trace, choice)
        yield f"turbo.{name}.levels", torch.tensor([level.sigma for level in levels], dtype=torch.float64)
        yield f"turbo.{name}.t_bf16", torch.tensor([level.timestep for level in rounded])
        yield f"turbo.{name}.x", trace.steps[-1].x[0]
        yield from _told(f"turbo.{name}", trace, "timesteps", "x_in")


def _self_forcing(fields: Fields, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    case = config["self_forcing"]
    levels = Warped(entries=tuple(case["steps"])).levels(4, case["shift"])
    trace = fields.run(Renoise(), fields.of("low"), levels, noise="self_forcing")
    yield from _told("self_forcing", trace, "timesteps", "sigmas", "x0", "x_in")


def _index(fields: Fields, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    case = config["lightx2v_index"]
    levels = IndexList(entries=tuple(case["index"])).levels(4, case["shift"])
    trace = fields.run(IndexRenoise(shift=case["shift"]), fields.of("low"), levels, noise="lightx2v_index")
    yield "lightx2v_index.x", trace.steps[-1].x[0]
    yield from _told("lightx2v_index", trace, "timesteps", "sigmas", "x_in")


def _causal(fields: Fields, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    case = config["causal22"]
    levels = Warped(entries=tuple(case["steps"])).levels(8, case["shift"])
    base = nearest_sigma(TIMESTEPS * case["boundary"], case["shift"])
    choice = expert_choice((case["boundary"],), levels)
    field = fields.both(choice)
    trace = fields.run(Renoise(boundary=base), field, levels, noise="causal22")
    ends = [base if choice(level) == 0 else 0.0 for level in trace.levels]
    rows = zip(trace.x_in, trace.levels, ends, strict=True)
    yield "causal22.pred", torch.cat([x[None] + (end - level.sigma) * field(x[None], level) for x, level, end in rows])
    yield "causal22.expert", _experts(trace, choice)
    yield from _told("causal22", trace, "timesteps", "x_in")


def _phases(fields: Fields, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, case in config["phases"].items():
        solver: Solver = EXACT
        levels = (EvenToOne() if case["ends_at_1"] else solver).levels(case["steps"], case["shift"])
        choice = expert_choice((case["thresholds"][case["low_from"] - 1] / TIMESTEPS,), levels)
        bounds = pairwise((0.0, *map(float, reversed(case["thresholds"])), float(TIMESTEPS)))
        pieces = [(index, TimestepRange(low=low, high=high)) for index, (low, high) in enumerate(reversed([*bounds]))]
        phase = RunSchedule(pieces=tuple(SchedulePiece(value=float(index), span=span) for index, span in pieces))
        trace = fields.run(Denoise(), fields.both(choice), levels)
        yield f"phases.{name}.expert", _experts(trace, choice)
        yield f"phases.{name}.phase", torch.tensor(values_of(phase, levels)).long()
        yield from _told(f"phases.{name}", trace, "timesteps", "x")


def _told(name: str, trace: Trace, *tensors: str) -> Iterator[tuple[str, Tensor]]:
    return ((f"{name}.{tensor}", getattr(trace, tensor)) for tensor in tensors)


JUDGES = {"few_step": judge}
