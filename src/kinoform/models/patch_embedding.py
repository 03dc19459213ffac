"""Patch embedding: patches of latents to tokens, one group of channels at a time."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.ops.patch import Patch, patches
from kinoform.types import Latents


class PatchEmbedding(nn.Module):
    """Convolution whose kernel is its stride, as a product over patches; weight [d, c, pt, ph, pw]."""

    def __init__(self, channels: int, dim: int, patch: Patch) -> None:
        super().__init__()
        bound = (channels * patch[0] * patch[1] * patch[2]) ** -0.5  # as torch starts a convolution
        self.weight = nn.Parameter(torch.empty(dim, channels, *patch).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.patch = patch

    def part(self, x: Latents, first: int) -> Float[Tensor, "b l d"]:
        """The contribution of channels first, first + 1, ... held by x; without the bias.

        Float32 whatever the weight, since the residual stream is: contributions that were rounded one by one would be
        further off than the whole.
        """
        weight = self.weight[:, first : first + x.shape[1]].flatten(1).float()
        return patches(x, self.patch).float() @ weight.T

    def forward(self, x: Latents) -> Float[Tensor, "b l d"]:
        """Tokens of latents alone, without the channels that stand behind them."""
        return self.part(x, 0) + self.bias.float()
