"""rCM (Zheng et al. 2025) and TurboDiffusion: levels by angles, a state in float64, one to four steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from kinoform.numbers import real, settle
from kinoform.solvers.base import State, Step, initial_state, interval, sample, velocity_at
from kinoform.solvers.level_grids import check_count
from kinoform.solvers.levels import TIMESTEPS, dpmpp_levels, noised
from kinoform.solvers.sampler import Run, beginning
from kinoform.types import CLEAN, Field, Latents, Level

ANGLES = (1.5, 1.4, 1.0)
"""Angles of the steps after the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrigFlow:
    """Levels sigma = sin a / (sin a + cos a) at the angles a = atan(sigma_max), 1.5, 1.4, 1.0; the shift is not read.

    The first level is a little below 1. With `rounded` the timesteps are those that bfloat16 leaves, 988, 932, 852 and
    608, which the networks were trained with and the official scripts feed. Raises UsageError for a `sigma_max` out of
    range.
    """

    sigma_max: float = 80.0
    rounded: bool = True

    def __post_init__(self) -> None:
        settle(self, sigma_max=real("sigma_max", self.sigma_max, 15.0, 100_000.0))

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        """Raises UsageError for more than 4 steps."""
        angles = (math.atan(self.sigma_max), *ANGLES)
        check_count([f"{angle:.4g}" for angle in angles], steps, fewer=True)
        return (*map(self._level, angles[:steps]), CLEAN)

    def _level(self, angle: float) -> Level:
        sigma = math.sin(angle) / (math.sin(angle) + math.cos(angle))
        timestep = TIMESTEPS * sigma
        return Level(sigma=sigma, timestep=_rounded(timestep) if self.rounded else timestep)


@dataclass(frozen=True, slots=True, kw_only=True)
class RCM:
    """Sampling of rCM: re-noising, or Euler's method with `ode`, in float64 from noise times the first sigma.

    x = (1 - sigma') (x - sigma v) + sigma' n with fresh noise n; with `ode` x - (sigma - sigma') v. The network is
    given x in the precision of the noise. Source: `wan2.1_t2v_infer.py`, `wan2.2_i2v_infer.py` of TurboDiffusion; `ode`
    is an option of the second alone.
    """

    ode: bool = False

    @property
    def edits(self) -> bool:
        return False

    def check(self, steps: int) -> None:
        """Any number of steps will do."""

    def steps(self, run: Run) -> Iterator[Step]:
        x = beginning(run).double()
        x = x if run.first else run.levels[0].sigma * x
        solver = _Wide(draw=run.draw, ode=self.ode, dtype=run.noise.dtype)
        return sample(solver, run.field, x, run.levels, start=run.first, constrain=run.constrain)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Wide:
    """A step of rCM as the loop of solvers takes it; what it ends with has the precision of the noise again."""

    draw: Callable[[], Latents]
    ode: bool
    dtype: torch.dtype

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        return dpmpp_levels(steps, shift, exact_timesteps=True)

    def init(self, x: Latents) -> State[None]:
        return initial_state(x, None)

    def step(self, state: State[None], field: Field, levels: tuple[Level, ...], index: int) -> State[None]:
        level, target = interval(levels, index)
        velocity = velocity_at(state.x.to(self.dtype), field, level).double()
        x0 = state.x - level.sigma * velocity
        if target.sigma == 0:
            x = x0.to(self.dtype)
        elif self.ode:
            x = state.x - (level.sigma - target.sigma) * velocity
        else:
            x = noised(x0, self.draw(), target.sigma)
        return State(x=x, x0=x0.to(self.dtype), history=None)


def _rounded(timestep: float) -> float:
    return float(torch.tensor(timestep).bfloat16())
