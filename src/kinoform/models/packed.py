"""A linear layer whose weight stays as its file stores it, and is unpacked each time the layer runs."""

from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from kinoform.models.linear import Linear
from kinoform.ops.cpu import learns, linear


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
        if not learns(x, self.bias):
            return linear(x, self.weight, self.bias)
        return cast(Tensor, _LearningProduct.apply(x, self.rows, self.bias, self.packing, self.dtype))  # pyright: ignore[reportUnknownMemberType]


def unpacked(rows: UInt8[Tensor, "out bytes"], packing: Packing, dtype: torch.dtype) -> Float[Tensor, "out in"]:
    """Return the matrix of the rows in a dtype."""
    return packing.unpack(rows).to(dtype)


class _LearningProduct(torch.autograd.Function):
    """The product, which keeps the packed rows for the gradient of x: autograd would keep the matrix."""

    @staticmethod
    def forward(x: Tensor, rows: Tensor, bias: Tensor | None, packing: Packing, dtype: torch.dtype) -> Tensor:
        return linear(x, unpacked(rows, packing, dtype), bias)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, Packing, torch.dtype], output: Tensor
    ) -> None:
        _, rows, _, ctx.packing, ctx.dtype = inputs
        ctx.save_for_backward(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
        (gradient,), (rows,) = gradients, ctx.saved_tensors
        for_x = for_bias = None
        if ctx.needs_input_grad[0]:
            for_x = linear(gradient, unpacked(rows, ctx.packing, ctx.dtype).t(), None)
        if ctx.needs_input_grad[2]:
            for_bias = gradient.flatten(0, -2).sum(0)
        return for_x, None, for_bias, None, None
