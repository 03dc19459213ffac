"""Floating-point operations that a call takes: 2 per multiply-add of products and convolutions."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from kinoform.ops.cpu import multiplies


def count_flops(call: Callable[[], object]) -> float:
    """Run `call` once and count; norms, activations and softmax are not counted."""
    with flop_counter() as counter:
        call()
    return float(counter.get_total_flops())


def flop_counter() -> FlopCounterMode:
    """Return PyTorch's counter, which counts the kernels of a CPU too that it would pass over.

    These are the products of `ops.cpu.linear`, and fused attention.
    """
    multiplies(torch.float32)  # whose answer takes a product, the first time
    counted: dict[Any, Any] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    }
    if (product := getattr(torch.ops.mkldnn, "_linear_pointwise", None)) is not None:
        counted[product] = _linear_flops
    return FlopCounterMode(display=False, custom_mapping=counted)


def _linear_flops(x: torch.Size, weight: torch.Size, *rest: object, out_shape: object = None, **named: object) -> int:
    return 2 * prod(x) * weight[0]


def _attention_flops(q: torch.Size, k: torch.Size, v: torch.Size, *rest: object, **named: object) -> int:
    return 2 * prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _attention_backward_flops(
    gradient: torch.Size, q: torch.Size, k: torch.Size, v: torch.Size, *rest: object, **named: object
) -> int:
    """Return the operations of five products, since the scores are made again (Dao et al., 2022)."""
    return 2 * prod(q[:-1]) * k[-2] * (3 * q[-1] + 2 * v[-1])
