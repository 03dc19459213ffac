"""The timestep as a vector of waves."""

import torch
from jaxtyping import Float
from torch import Tensor

PERIOD = 10000.0


def sinusoid(timesteps: Float[Tensor, "*b"], width: int) -> Float[Tensor, "*b w"]:
    """[cos(t f_k), sin(t f_k)] with f_k = 10000^(-k / half), cosines first (Vaswani et al., 2017).

    `timesteps` lie in [0, 1000] and are not scaled. Evaluated in float64, returned in float32: a float32
    evaluation is off by up to 4e-5, which shows in the model's output.
    """
    half = width // 2
    frequency = PERIOD ** (-torch.arange(half, dtype=torch.float64, device="cpu") / half)
    angle = timesteps.detach().cpu().double()[..., None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1).float().to(timesteps.device)
