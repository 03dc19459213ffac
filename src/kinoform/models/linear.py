"""A linear layer that takes its input in any dtype and computes in that of its weight."""

from collections.abc import Iterator
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from kinoform.ops.cpu import linear
from kinoform.ops.made_product import made_product

Module = TypeVar("Module", bound=nn.Module)


class Linear(nn.Linear):
    """y = x W^T + b in the weight's dtype: bfloat16 in the blocks, float32 where the spec keeps it.

    A frozen weight that is `fetched` stays in the host's memory. It comes to the device of the input for each product,
    and again for its gradient.
    """

    fetched = False

    @property
    def computes(self) -> torch.dtype:
        """The dtype of its products."""
        return self.weight.dtype

    def forward(self, input: Tensor) -> Tensor:
        x = input.to(self.weight.dtype)
        if self.fetched:
            return made_product(x, self.weight, self.bias, partial(fetched, device=x.device))
        return linear(x, self.weight, self.bias)


def fetched(stored: Tensor, device: torch.device) -> Tensor:
    """Return what is stored on a device; from pinned memory the host does not wait for it."""
    return stored.to(device, non_blocking=True)


def named_modules(model: nn.Module, kind: type[Module]) -> Iterator[tuple[str, Module]]:
    """Yield the modules of a kind, by their names in the model."""
    for name, module in model.named_modules():  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(module, kind):
            yield str(name), module  # pyright: ignore[reportUnknownArgumentType]


def entering(x: Tensor, *layers: Linear) -> Tensor:
    """Cast x once as all of these layers would; leave it where they compute in several dtypes."""
    kinds = {layer.computes for layer in layers}
    return x.to(kinds.pop()) if len(kinds) == 1 else x
