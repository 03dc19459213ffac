"""Flow matching: learn the velocity of the straight path from data to noise (Lipman et al. 2023)."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from kinoform.models.dit import DiT
from kinoform.ops.patch import grid_of
from kinoform.solvers.levels import TIMESTEPS
from kinoform.types import Conditions, Latents, Velocity


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
    """The model, from noisy latents, their levels and conditions to a velocity."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Latents, sigma: Float[Tensor, " b"], conditions: Conditions) -> Velocity:
        return predict_velocity(self.model, x, sigma, conditions)

    def compile(self, *args: Any, **options: Any) -> None:
        """Have PyTorch compile every block, as `DiT.compile` does: one graph for all, which is soon there."""
        self.model.compile(*args, **options)
