"""A linear layer that takes its input in any dtype and computes in that of its weight."""

from torch import Tensor, nn

from kinoform.ops.cpu import linear


class Linear(nn.Linear):
    """y = x W^T + b in the weight's dtype: bfloat16 in the blocks, float32 where the spec keeps it."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input.to(self.weight.dtype), self.weight, self.bias)
