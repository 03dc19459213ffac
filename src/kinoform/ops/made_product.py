"""Products with a frozen matrix that is made each time it is needed, from what is stored of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.ops.cpu import learns, linear

Make: TypeAlias = Callable[[Tensor], Tensor]
"""Makes a matrix [outputs, inputs] of what is stored: the same one each time."""


def made_product(
    x: Float[Tensor, "*b inputs"], stored: Tensor, bias: Float[Tensor, " outputs"] | None, make: Make
) -> Float[Tensor, "*b outputs"]:
    """x W^T + b with W = make(stored), bit for bit as with W at hand, gradients too.

    W is made again for the gradient of x: autograd would keep it until then.
    """
    if not learns(x, bias):
        return linear(x, make(stored), bias)
    return cast(Tensor, _LearningProduct.apply(x, stored, bias, make))  # pyright: ignore[reportUnknownMemberType]


class _LearningProduct(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, stored: Tensor, bias: Tensor | None, make: Make) -> Tensor:
        return linear(x, make(stored), bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, Make], output: Tensor) -> None:
        _, stored, _, ctx.make = inputs
        ctx.save_for_backward(stored)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        (gradient,), (stored,) = gradients, ctx.saved_tensors
        for_x = linear(gradient, ctx.make(stored).t(), None) if ctx.needs_input_grad[0] else None
        return for_x, None, gradient.flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None, None
