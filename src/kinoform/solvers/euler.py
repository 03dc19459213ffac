"""First order: a straight line along the velocity."""

from dataclasses import dataclass

from kinoform.solvers.base import State, initial_state, interval, velocity_at
from kinoform.solvers.levels import dpmpp_levels
from kinoform.types import Field, Latents, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Euler:
    """Euler's method, x_(i+1) = x + (sigma_(i+1) - sigma_i)·v, on the grid of DPM-Solver++, whose first order it is.

    `exact_timesteps` gives the network 1000·sigma untruncated, for checkpoints distilled with that.
    """

    exact_timesteps: bool = False

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        return dpmpp_levels(steps, shift, exact_timesteps=self.exact_timesteps)

    def init(self, x: Latents) -> State[None]:
        return initial_state(x, None)

    def step(self, state: State[None], field: Field, levels: tuple[Level, ...], index: int) -> State[None]:
        level, target = interval(levels, index)
        velocity = velocity_at(state.x, field, level)
        return State(
            x=state.x + (target.sigma - level.sigma) * velocity,
            x0=state.x - level.sigma * velocity,
            history=None,
        )
