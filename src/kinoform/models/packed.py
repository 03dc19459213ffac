"""A linear layer whose weight stays as its file stores it, and is unpacked each time the layer runs."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from kinoform.models.linear import Linear
from kinoform.ops.cpu import linear


@runtime_checkable
class Packing(Protocol):
    """Storage of the rows of a matrix: a frozen value that reads any number of them."""

    def unpack(self, rows: UInt8[Tensor, "n bytes"]) -> Float32[Tensor, "n columns"]:
        """The numbers of the rows, on the device of the rows."""
        ...


class PackedLinear(Linear):
    """y = x W^T + b with W = unpack(rows) in `dtype`: memory of the file, time of unpacking at every call.

    The same numbers as a Linear that was filled with the unpacked weight. `rows` is uint8, so that no cast
    of the module touches it; `weight` is a fresh tensor each time it is read.
    """

    rows: Tensor

    def __init__(
        self, rows: UInt8[Tensor, "out bytes"], packing: Packing, bias: nn.Parameter | None, dtype: torch.dtype
    ) -> None:
        nn.Module.__init__(self)  # nn.Linear would make a weight
        self.register_buffer("rows", rows)
        self.packing, self.dtype = packing, dtype
        self.register_parameter("bias", bias)
        self.out_features = len(rows)
        self.in_features = packing.unpack(rows[:1]).shape[1]

    @property
    def weight(self) -> Float[Tensor, "out in"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.packing.unpack(self.rows).to(self.dtype)

    @property
    def computes(self) -> torch.dtype:
        return self.dtype

    def forward(self, input: Tensor) -> Tensor:
        return linear(input.to(self.dtype), self.weight, self.bias)
