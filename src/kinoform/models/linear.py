"""A linear layer that takes its input in any dtype and computes in that of its weight."""

import torch
from torch import Tensor, nn

from kinoform.ops.cpu import linear


class Linear(nn.Linear):
    """y = x W^T + b in the weight's dtype: bfloat16 in the blocks, float32 where the spec keeps it."""

    @property
    def computes(self) -> torch.dtype:
        """The dtype of its products."""
        return self.weight.dtype

    def forward(self, input: Tensor) -> Tensor:
        return linear(input.to(self.weight.dtype), self.weight, self.bias)


def entering(x: Tensor, *layers: Linear) -> Tensor:
    """x as all of these layers would cast it, cast once; as it is where they compute in several dtypes."""
    kinds = {layer.computes for layer in layers}
    return x.to(kinds.pop()) if len(kinds) == 1 else x
