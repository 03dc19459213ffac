"""Flow matching: learn the velocity of the straight path from data to noise (Lipman et al. 2023)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.dit import DiT
from kinoform.ops.patch import grid_of
from kinoform.solvers.levels import TIMESTEPS, shifted
from kinoform.types import Conditions, Latents, Velocity

_OPEN = 2.0**-24  # the distance of u from 0 and 1: a float32 sigma never rounds onto either end


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSampling:
    """Distribution of the noise levels of a training batch; see `shifted_uniform`.

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
        shift = self.shift if self.late_shift is None or step < self.late_from else self.late_shift
        return shifted_uniform(shape, shift, generator, stratified=self.stratified)


def shifted_uniform(
    shape: tuple[int, ...], shift: float, generator: torch.Generator, *, stratified: bool = False
) -> Float[Tensor, "..."]:
    """Draw levels sigma in the open interval (0, 1), float32, on the generator's device.

    Stratified: along the first axis (the batch) each of the `n` equal parts of (0, 1) holds exactly one
    u, in random order. Every level is still uniform by itself, but the mean of a batch varies far less.
    """
    device = generator.device
    u = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    if stratified:
        order = torch.rand(shape, generator=generator, device=device, dtype=torch.float64).argsort(dim=0)
        u = (order + u) / shape[0]
    return shifted(u.clamp(_OPEN, 1 - _OPEN), shift).float().clamp(_OPEN, 1 - _OPEN)


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
