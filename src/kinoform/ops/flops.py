"""Floating-point operations that a call takes: 2 per multiply-add of products and convolutions."""

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def count_flops(call: Callable[[], object]) -> float:
    """Run `call` once and count; norms, activations and softmax are not counted."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())
