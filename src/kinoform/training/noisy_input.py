"""Construction of the latents that a model learns from, exactly as generation has them at a level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput
from kinoform.errors import UsageError
from kinoform.solvers.levels import noised
from kinoform.training.objective import velocity_target
from kinoform.types import Latents, Velocity


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyInput:
    """Latents `x` with noise, and the velocity `target` that is to be predicted of them.

    `free` weighs the loss of each latent: zero where generation keeps known latents clean, as the first frame of Wan
    2.2 TI2V, and 1 in the mean of a sample; None where all are generated.
    """

    x: Latents
    target: Velocity
    free: Float[Tensor, "b 1 f h w"] | None = None

    def loss(self, velocity: Velocity) -> Float[Tensor, " b"]:
        """Return the mean squared error of a velocity in each sample, over what is generated."""
        squared = (velocity - self.target).square()
        return (squared if self.free is None else squared * self.free).flatten(1).mean(1)


def noisy_input(
    condition: ConditionerOutput,
    latents: Latents,
    noise: Float[Tensor, "b c with_images h w"],
    sigma: Float[Tensor, " b"],
) -> NoisyInput:
    """Mix noise into the latents of videos, those of images before them in front; what is known clean is put back.

    `condition` is that of the batch, as `collate` makes it; `noise` covers the images before the videos too. Raises
    UsageError for a batch with frames before its videos whose latents nobody gave.
    """
    constraints = condition.constraints
    if constraints.prefix_frames:
        if constraints.prefix_latents is None:
            raise UsageError(
                f"{constraints.prefix_frames} latent frames stand before the video, and nothing says what they show; "
                "leave a conditioner out of the recipe",
                code="conditioners_conflict",
            )
        latents = torch.cat([constraints.prefix_latents.to(latents), latents], dim=2)
    x, target, known = noised(latents, noise, sigma), velocity_target(latents, noise), constraints.inpainting
    if known is None:
        return NoisyInput(x=x, target=target)
    before, size = constraints.prefix_frames, (x.shape[0], 1, x.shape[2] - constraints.prefix_frames, *x.shape[3:])
    video = torch.where(known.mask, known.latents.to(x), x[:, :, before:])
    free = torch.cat([torch.ones(size[0], 1, before, *size[3:]), (~known.mask).float().expand(size)], dim=2)
    share = free.mean(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1 / free[0].numel())
    return NoisyInput(x=torch.cat([x[:, :, :before], video], dim=2), target=target, free=free / share)
