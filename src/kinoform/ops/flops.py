"""Floating-point operations that a call takes: 2 per multiply-add of products and convolutions."""

from collections.abc import Callable
from math import prod

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flops(call: Callable[[], object]) -> float:
    """Run `call` once and count; norms, activations and softmax are not counted."""
    with flop_counter() as counter:
        call()
    return float(counter.get_total_flops())


def flop_counter() -> FlopCounterMode:
    """Return PyTorch's counter, which counts the products of `ops.cpu.linear` too, where it would pass over them."""
    product = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return FlopCounterMode(display=False, custom_mapping={} if product is None else {product: _linear_flops})


def _linear_flops(x: torch.Size, weight: torch.Size, *rest: object, out_shape: object = None, **named: object) -> int:
    return 2 * prod(x) * weight[0]
