"""Frozen matrices that stay in the host's memory and come to the device for their products: for small cards."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from kinoform.models.linear import Linear, named_modules
from kinoform.models.lora_linear import Adapted, Adapter
from kinoform.models.packed import PackedLinear
from kinoform.models.protocols import Block


def place(module: nn.Module, device: torch.device, swapped: int = 0) -> None:
    """Move a module to a device but for the frozen matrices of its first `swapped` blocks, which layers fetch.

    What learns goes there, as do norms and biases; results are the same bit for bit. Packed weights come as they are
    stored. For an accelerator the matrices lie in pinned memory.
    """
    layers = [layer for block in islice(_blocks(module), swapped) for layer in swappable(block)]
    kept = [_take(layer) for layer in layers]
    module.to(device)
    for layer, (name, stored) in zip(layers, kept, strict=True):
        stored = stored.pin_memory() if device.type == "cuda" and not stored.is_pinned() else stored
        layer.fetched = True
        if isinstance(layer, PackedLinear):
            layer.register_buffer(name, stored)
        else:
            layer.register_parameter(name, nn.Parameter(stored, requires_grad=False))


def swappable(block: nn.Module) -> Iterator[Linear]:
    """Yield the layers of a block whose matrices may be swapped: frozen ones, with no changes but low-rank ones."""
    for _, layer in named_modules(block, Linear):
        changes = layer.named().values() if isinstance(layer, Adapted) else ()
        frozen = isinstance(layer, PackedLinear) or not layer.weight.requires_grad
        if frozen and all(isinstance(change, Adapter) for change in changes):
            yield layer


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    return (part for part in module.modules() if isinstance(part, Block))


def _take(layer: Linear) -> tuple[str, Tensor]:
    """Take the stored matrix out of a layer, and return its name there with it."""
    name = "rows" if isinstance(layer, PackedLinear) else "weight"
    stored = getattr(layer, name).detach()
    if isinstance(layer, PackedLinear):
        layer.register_buffer(name, None)
    else:
        layer.register_parameter(name, None)
    return name, stored
