"""Normalisation with weights."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.ops.norm import rms_norm


class RMSNorm(nn.Module):
    """RMS norm with a weight; over the whole width, all heads together, as Wan's queries and keys have it."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        return rms_norm(x, self.weight, self.eps)
