"""Levels of noise at each step: evenly spaced, bent by the shift."""

import math
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from kinoform.errors import UsageError
from kinoform.types import CLEAN, Level

Value = TypeVar("Value", float, Tensor)

TIMESTEPS = 1000
UNIPC_START = float(np.float32(1 - 1 / TIMESTEPS))


def shifted(u: Value, shift: float) -> Value:
    """S(u) = s·u / (1 + (s-1)·u): spends more steps at high noise for s > 1; S_a(S_b(u)) = S_ab(u).

    Esser et al. 2024, "Scaling rectified flow transformers", section 5.3.2.
    """
    return (shift * u) / (1 + (shift - 1) * u)


def noised(
    x0: Float[Tensor, "b *shape"], noise: Float[Tensor, "b *shape"], sigma: float | Float[Tensor, " b"]
) -> Float[Tensor, "b *shape"]:
    """Return x = (1 - sigma) x0 + sigma noise, at one level or at one for each sample; exact at 0 and at 1."""
    level = sigma.reshape(-1, *[1] * (x0.ndim - 1)) if isinstance(sigma, Tensor) else sigma
    return (1 - level) * x0 + level * noise


def unipc_levels(steps: int, shift: float) -> tuple[Level, ...]:
    """Return the grid of the official UniPC: S over `steps` even points from float32(0.999), then CLEAN.

    Returns steps + 1 levels. Raises UsageError for steps < 1 or a shift that is not positive and finite.
    """
    return _falling(UNIPC_START, steps, shift, exact_timesteps=False)


def dpmpp_levels(steps: int, shift: float, *, exact_timesteps: bool = False) -> tuple[Level, ...]:
    """Return the grid of the official DPM-Solver++, and of Euler: S over `steps` even points from 1, then CLEAN.

    `exact_timesteps` leaves 1000·sigma untruncated, for checkpoints that were distilled with it.
    Returns steps + 1 levels. Raises UsageError for steps < 1 or a shift that is not positive and finite.
    """
    return _falling(1.0, steps, shift, exact_timesteps=exact_timesteps)


def level_at(sigma: float, *, exact_timestep: bool = False) -> Level:
    """Return the level of any sigma in [0, 1], on a grid or off it.

    The timestep is the truncated product of 1000 and the float64 sigma; only then is sigma rounded to
    float32. Raises UsageError outside [0, 1].
    """
    if not 0 <= sigma <= 1:
        raise UsageError(
            f"sigma is {sigma}; a noise level lies between 0 (clean) and 1 (pure noise)", code="value_out_of_range"
        )
    product = sigma * TIMESTEPS
    # Truncated, never rounded: float64 makes some whole products one ulp low (shift 3, 10 steps: 874,
    # not 875), and the networks and the expert switch are to see the official number.
    timestep = product if exact_timestep else float(math.trunc(product))
    return Level(sigma=float(np.float32(sigma)), timestep=timestep)


def check_grid(steps: int, shift: float) -> None:
    """Raise UsageError for steps < 1 or a shift that is not positive and finite."""
    if steps < 1:
        raise UsageError(f"steps is {steps}; a video needs at least 1 step", code="value_out_of_range")
    if not (math.isfinite(shift) and shift > 0):
        raise UsageError(
            f"shift is {shift}; give a positive number (1 leaves the levels evenly spaced)", code="value_out_of_range"
        )


def _falling(start: float, steps: int, shift: float, *, exact_timesteps: bool) -> tuple[Level, ...]:
    check_grid(steps, shift)
    stride = (0 - start) / steps
    # The order of operations is the official one: start - i·start/steps gives other timesteps.
    # The division may leave the first sigma an ulp above 1 for shifts below 1.
    sigmas = (min(shifted(i * stride + start, shift), 1.0) for i in range(steps))
    return (*(level_at(sigma, exact_timestep=exact_timesteps) for sigma in sigmas), CLEAN)
