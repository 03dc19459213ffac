"""Floating-point operations that a call takes: 2 per multiply-add of products and convolutions."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flops(call: Callable[[], object]) -> float:
    """Run `call` once and count; norms, activations and softmax are not counted."""
    with FlopCounterMode(display=False, custom_mapping=_uncounted()) as counter:
        call()
    return float(counter.get_total_flops())


def _uncounted() -> dict[Any, Any]:
    """Return the products of `ops.cpu.linear` that PyTorch's counter passes over, where they exist."""
    product = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return {} if product is None else {product: _linear_flops}


def _linear_flops(x: torch.Size, weight: torch.Size, *rest: object, out_shape: object = None, **named: object) -> int:
    return 2 * prod(x) * weight[0]
