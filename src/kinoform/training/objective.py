"""Flow matching: learn the velocity of the straight path from data to noise (Lipman et al. 2023)."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.dit import DiT
from kinoform.ops.patch import grid_of
from kinoform.solvers.levels import TIMESTEPS, shifted
from kinoform.types import Conditions, Latents, Velocity

_OPEN = 2.0**-24  # the distance of u from 0 and 1: a float32 sigma never rounds onto either end


@runtime_checkable
class Levels(Protocol):
    """Distribution of the noise levels of a training batch."""

    def draw(self, shape: tuple[int, ...], generator: torch.Generator, step: int) -> Float[Tensor, "..."]:
        """Draw the levels sigma of a step, float32 in (0, 1); the first axis is the batch."""
        ...

    def within(self, low: float, high: float) -> "Levels":
        """Return the part of the distribution from `low` up to, but without, `high`, as one of several experts needs.

        Raises UsageError where nothing is left of it.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSampling:
    """Noise levels drawn uniformly and shifted; see `shifted_uniform`.

    From step `late_from` on with `late_shift`, where there is one: first what a video shows, which is decided
    near pure noise, then how it is drawn.
    """

    shift: float = 5.0
    late_shift: float | None = None
    late_from: int = 0
    stratified: bool = True

    def __post_init__(self) -> None:
        for shift in (self.shift, self.late_shift):
            if shift is not None and not shift > 0:
                raise UsageError(
                    f"the shift of the noise levels must be above 0, got {shift}; Wan trains with 5",
                    code="value_out_of_range",
                )

    def draw(self, shape: tuple[int, ...], generator: torch.Generator, step: int) -> Float[Tensor, "..."]:
        """See `Levels`."""
        return shifted_uniform(shape, self.shift_at(step), generator, stratified=self.stratified)

    def within(self, low: float, high: float) -> "LevelRange":
        """See `Levels`."""
        return LevelRange(sampling=self, low=low, high=high)

    def shift_at(self, step: int) -> float:
        """Return the shift of a step."""
        return self.shift if self.late_shift is None or step < self.late_from else self.late_shift


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRange:
    """Levels of `sampling` from `low` up to, but without, `high`: those at timesteps of an expert.

    Their density is that of `sampling`. Raises UsageError unless 0 <= low < high <= 1.
    """

    sampling: LevelSampling
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise UsageError(
                f"no noise levels lie between {self.low} and {self.high}; give two numbers from 0 (clean) to 1 "
                "(noise), the lower one first",
                code="value_out_of_range",
            )

    def draw(self, shape: tuple[int, ...], generator: torch.Generator, step: int) -> Float[Tensor, "..."]:
        """See `Levels`."""
        sampling = self.sampling
        return shifted_uniform(
            shape, sampling.shift_at(step), generator,
            stratified=sampling.stratified, low=self.low, high=self.high,
        )  # fmt: skip

    def within(self, low: float, high: float) -> "LevelRange":
        """See `Levels`."""
        return LevelRange(sampling=self.sampling, low=max(self.low, low), high=min(self.high, high))


def shifted_uniform(
    shape: tuple[int, ...],
    shift: float,
    generator: torch.Generator,
    *,
    stratified: bool = False,
    low: float = 0.0,
    high: float = 1.0,
) -> Float[Tensor, "..."]:
    """Draw levels sigma in the open interval (0, 1), from `low` up to but without `high`, float32.

    They are on the generator's device. sigma = S(u) of a uniform u, which is drawn between S^-1(low) and S^-1(high).
    Stratified: along the first axis (the batch) each of the `n` equal parts of (0, 1) holds exactly one
    u, in random order. Every level is still uniform by itself, but the mean of a batch varies far less.
    """
    device = generator.device
    u = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    if stratified:
        order = torch.rand(shape, generator=generator, device=device, dtype=torch.float64).argsort(dim=0)
        u = (order + u) / shape[0]
    if (low, high) != (0.0, 1.0):
        first, last = (shifted(bound, 1 / shift) for bound in (low, high))
        u = first + u * (last - first)
    return shifted(u.clamp(_OPEN, 1 - _OPEN), shift).float().clamp(*_float32_bounds(low, high))


def _float32_bounds(low: float, high: float) -> tuple[float, float]:
    """Return the least float32 of at least `low` and the greatest below `high`, both within (0, 1)."""
    least, greatest = np.float32(low), np.float32(high)
    if float(least) < low:
        least = np.nextafter(least, np.float32(1))
    if float(greatest) >= high:
        greatest = np.nextafter(greatest, np.float32(0))
    return max(float(least), _OPEN), float(greatest)


def timesteps(sigma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Scale levels to what a network reads, without the truncation of the official sampler."""
    return TIMESTEPS * sigma


def velocity_target(x0: Float[Tensor, "b *shape"], noise: Float[Tensor, "b *shape"]) -> Float[Tensor, "b *shape"]:
    """Return v = eps - x0 = dx_t / dsigma, hence x0 = x_t - sigma v."""
    return noise - x0


def flow_matching_loss(
    velocity: Float[Tensor, "b *shape"],
    noise: Float[Tensor, "b *shape"],
    x0: Float[Tensor, "b *shape"],
    weight: Float[Tensor, "#b *#shape"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean of weight * (velocity - (eps - x0))^2 over all elements, in float32.

    The weight broadcasts against the data and is not normalised: a weight of mean 1 keeps the scale.
    """
    squared = (velocity.float() - velocity_target(x0.float(), noise.float())).square()
    return squared.mean() if weight is None else (weight.float() * squared).mean()


def predict_velocity(model: DiT, x: Latents, sigma: Float[Tensor, " b"], conditions: Conditions) -> Velocity:
    """Ask the model for the velocity of noisy latents, each at a level of its own."""
    return model(x, timesteps(sigma), model.prepare(conditions, grid_of(x, model.spec.patch)))


class TrainableModel(nn.Module):
    """The model, from noisy latents, their levels and conditions to a velocity; compiled or replaced as one."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Latents, sigma: Float[Tensor, " b"], conditions: Conditions) -> Velocity:
        return predict_velocity(self.model, x, sigma, conditions)
