"""Re-noising: the clean video is predicted in each step, and mixed with fresh noise for the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kinoform.numbers import real, settle
from kinoform.solvers.base import State, Step, initial_state, interval, sample, velocity_at
from kinoform.solvers.levels import dpmpp_levels
from kinoform.solvers.sampler import Run, beginning
from kinoform.types import Field, Latents, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Renoise:
    """Sampling of models distilled by distribution matching (DMD2, Yin et al. 2024), each step with fresh noise n.

    y = x - (sigma - b) v; x = k y + sqrt(sigma'^2 - (k b)^2) n, k = (1 - sigma') / (1 - b).

    b is 0 by default: y is the clean video x0, and x = (1 - sigma') x0 + sigma' n. With a `boundary` above 0 that is b
    down to this sigma, where y is the video at the boundary, and 0 below: the rule of two experts (FastVideo's causal
    A14B, phased DMD), of which the second begins with the last y as if at its own first level. A noise is drawn at each
    step but the last, also at that one. The levels are those of the run. Raises UsageError for a boundary out of range.
    """

    boundary: float = 0.0

    def __post_init__(self) -> None:
        settle(self, boundary=real("boundary", self.boundary, 0.0, 0.999))

    @property
    def edits(self) -> bool:
        return False

    def check(self, steps: int) -> None:
        """Any number of steps will do."""

    def steps(self, run: Run) -> Iterator[Step]:
        return renoised(run, lambda level: level.sigma, boundary=self.boundary)


def renoised(run: Run, arrive: Callable[[Level], float], *, boundary: float = 0.0) -> Iterator[Step]:
    """Return the steps of a run by the rule of `Renoise`, noised to `arrive(level)` for each next level."""
    solver = _Renoising(draw=run.draw, arrive=arrive, boundary=boundary)
    return sample(solver, run.field, beginning(run), run.levels, start=run.first, constrain=run.constrain)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Renoising:
    """A step of re-noising as the loop of solvers takes it, with the noise of one video."""

    draw: Callable[[], Latents]
    arrive: Callable[[Level], float]
    boundary: float

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        return dpmpp_levels(steps, shift, exact_timesteps=True)

    def init(self, x: Latents) -> State[None]:
        return initial_state(x, None)

    def step(self, state: State[None], field: Field, levels: tuple[Level, ...], index: int) -> State[None]:
        level, target = interval(levels, index)
        velocity = velocity_at(state.x, field, level)
        x0 = state.x - level.sigma * velocity
        if target.sigma == 0:
            return State(x=x0, x0=x0, history=None)
        base, noise = self.boundary if level.sigma > self.boundary else 0.0, self.draw()
        there = state.x - (level.sigma - base) * velocity
        x = there if target.sigma <= base else _noised(there, base, self.arrive(target), noise)
        return State(x=x, x0=x0, history=None)


def _noised(there: Latents, base: float, sigma: float, noise: Latents) -> Latents:
    """The video from the level `base` brought up to `sigma`."""
    keep = (1 - sigma) / (1 - base)
    return keep * there + math.sqrt(sigma**2 - (keep * base) ** 2) * noise
