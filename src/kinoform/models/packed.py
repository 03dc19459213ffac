"""A linear layer whose weight stays as its file stores it, and is unpacked each time the layer runs."""

from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from kinoform.models.linear import Linear, fetched
from kinoform.ops.made_product import made_product


@runtime_checkable
class Packing(Protocol):
    """Storage of the rows of a matrix: a frozen value that reads any number of them."""

    def unpack(self, rows: UInt8[Tensor, "n bytes"]) -> Float32[Tensor, "n columns"]:
        """The numbers of the rows, on the device of the rows."""
        ...


class PackedLinear(Linear):
    """y = x W^T + b with W = unpack(rows) in `dtype`: memory of the file, time of unpacking at every call.

    The same numbers as a Linear that was filled with the unpacked weight, gradients too. `rows` is uint8, so that no
    cast of the module touches it; `weight` is a fresh tensor each time it is read, and none is kept for the backward
    pass, which unpacks again.
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
        return unpacked(self.rows, self.packing, self.dtype)

    @property
    def computes(self) -> torch.dtype:
        return self.dtype

    def forward(self, input: Tensor) -> Tensor:
        x = input.to(self.dtype)
        make = partial(unpacked, packing=self.packing, dtype=self.dtype, device=x.device if self.fetched else None)
        return made_product(x, self.rows, self.bias, make)


def unpacked(
    rows: UInt8[Tensor, "out bytes"], packing: Packing, dtype: torch.dtype, device: torch.device | None = None
) -> Float[Tensor, "out in"]:
    """Return the matrix of the rows in a dtype, on another device than theirs if one is given."""
    rows = rows if device is None else fetched(rows, device)
    return packing.unpack(rows).to(dtype)
