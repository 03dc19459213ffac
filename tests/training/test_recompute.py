"""Gradient checkpointing: the same gradients, fewer bytes kept, more operations."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from kinoform.models.context import TextContext
from kinoform.models.dit import DiTSpec, initialise, keeps_float32
from kinoform.models.vace_blocks import VaceBlocks, VaceContext
from kinoform.ops.flops import flop_counter
from kinoform.training.objective import TrainableModel
from kinoform.training.recompute import Recompute, recompute_blocks
from kinoform.types import Conditions
from tests.support.live_bytes import LiveBytes

SPEC = DiTSpec(
    dim=24, ffn_dim=64, heads=2, layers=3, in_channels=4, out_channels=4, frequency_width=16,
    context=(TextContext(width=16, length=8),),
)  # fmt: skip


BESIDE = VaceBlocks(layers=(0, 1, 2), channels=4)


def model(*, beside: bool) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dit = replace(SPEC, branches=(BESIDE,) if beside else ()).build()
        initialise(dit, torch.Generator().manual_seed(0))
        nn.init.normal_(dit.head.linear.weight)
        for name, weight in dit.branches.named_parameters():
            if ".after." in name or ".before." in name:  # a fresh branch has no effect
                nn.init.normal_(weight, std=0.1)
    return TrainableModel(dit)


def step(mode: Recompute, side: int, precision: torch.dtype, *, beside: bool = False) -> tuple[list[Tensor], int, int]:
    """Gradients, the bytes that are kept between the passes, and the operations of both.

    The weights are lent rounded for the call, as stages do.
    """
    module, generator = model(beside=beside), torch.Generator().manual_seed(1)
    recompute_blocks(module, mode)
    x, rows = torch.randn(1, 4, 1, side, side, generator=generator), torch.randn(1, 8, 16, generator=generator)
    control = {"vace": VaceContext(latents=torch.randn(1, 4, 1, side, side, generator=generator))} if beside else {}
    inputs = x, torch.tensor([0.5]), Conditions(context={"text": rows}, branches=control)
    lent = {n: p if keeps_float32(n.removeprefix("model.")) else p.to(precision) for n, p in module.named_parameters()}
    with flop_counter() as operations:
        with LiveBytes() as live:
            loss = functional_call(module, lent, inputs).float().square().mean()
            kept = live.now
        loss.backward()
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return gradients, kept, int(operations.get_total_flops())


@pytest.mark.parametrize(("side", "precision"), [(8, torch.float32), (8, torch.bfloat16), (72, torch.float32)])
def test_gradients_are_equal_and_memory_is_not(side: int, precision: torch.dtype) -> None:
    """In bfloat16 attention to few keys is made of products; else it is a kernel, whose results are kept."""
    (plain, most, least), (full, few, twice), (selective, some, between) = (
        step(mode, side, precision) for mode in (Recompute.NONE, Recompute.FULL, Recompute.SELECTIVE)
    )
    assert len(plain) == len(full) == len(selective) > 20
    for own, other, third in zip(plain, full, selective, strict=True):
        assert torch.equal(own, other)
        assert torch.equal(own, third)
    assert few < 0.5 * most
    assert few <= some < most
    assert least < between <= twice < 1.4 * least
    assert (few < some) == (precision == torch.float32)


def test_blocks_of_a_branch_are_run_again_too() -> None:
    """They are as many as the main ones: kept, they would be most of what is left."""
    (plain, most, least), (full, few, twice) = (
        step(mode, 8, torch.float32, beside=True) for mode in (Recompute.NONE, Recompute.FULL)
    )
    assert len(plain) == len(full) > 100
    assert all(torch.equal(own, other) for own, other in zip(plain, full, strict=True))
    assert sum(bool(own.any()) for own in plain) > 100
    assert few < 0.5 * most and 1.2 * least < twice < 1.4 * least
