"""`main`: what of generation is compiled, in a process of its own: checks of shapes hinder the compiler."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._dynamo.utils import counters

from kinoform.models.attention.factorized import Alternating
from kinoform.models.block import FullBlock
from kinoform.models.context import TextContext
from kinoform.models.dit import DiT, DiTSpec, cast_weights
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.models.vace_blocks import VaceBlocks, VaceContext
from kinoform.ops.patch import grid_of
from kinoform.types import Conditions, Level
from tests.models.recorded import gap, spread
from tests.support.narrowing import of_type

SPEC = DiTSpec(
    dim=24, ffn_dim=48, heads=2, layers=10, in_channels=4, out_channels=4, frequency_width=16,
    context=(TextContext(width=16, length=4),),
)  # fmt: skip
SIDE = replace(SPEC, branches=(VaceBlocks(layers=(0, 5), channels=4),))
LEVEL = Level(sigma=0.5, timestep=500.0)


def by_blocks(model: DiT) -> None:
    for block in model.blocks:
        block.compile(backend="eager")


def by_the_model(model: DiT) -> None:
    model.compile(backend="eager")


def by_wrapped_blocks(model: DiT) -> None:
    model.blocks = nn.ModuleList([of_type(nn.Module, torch.compile(block, backend="eager")) for block in model.blocks])


CASES: dict[str, tuple[DiTSpec, Callable[[DiT], None]]] = {
    "blocks": (SPEC, by_blocks),
    "wrapped blocks": (SPEC, by_wrapped_blocks),
    "side blocks": (SIDE, by_the_model),
    "alternating": (replace(SPEC, block=FullBlock(attention=Alternating())), by_the_model),
    "factorized": (replace(SPEC, block=FactorizedBlock()), by_the_model),
}


@torch.inference_mode()
def told(spec: DiTSpec, compile: Callable[[DiT], None], dtype: torch.dtype) -> dict[str, Any]:
    """Two velocities of two prompts: how far the second ones, compiled, are from the first, and what was compiled."""
    model = spec.build().eval().requires_grad_(False)
    spread(model, seed=1)
    cast_weights(model, dtype)
    x = torch.randn(1, 4, 2, 32, 32, generator=torch.Generator().manual_seed(1))
    branches = {each.name: VaceContext(latents=x) for each in spec.branches}
    texts = torch.randn(2, 1, 3, 16, generator=torch.Generator().manual_seed(2))
    conditions = [Conditions(context={"text": rows}, branches=branches) for rows in texts]
    wanted = model.velocities(x, LEVEL, [model.prepare(each, grid_of(x, spec.patch)) for each in conditions])
    torch._dynamo.reset()
    counters.clear()
    compile(model)
    found = model.velocities(x, LEVEL, [model.prepare(each, grid_of(x, spec.patch)) for each in conditions])
    return {
        "gap": max(map(gap, found, wanted)),
        "graphs": counters["stats"]["unique_graphs"],
        "calls": counters["stats"]["calls_captured"],
        "breaks": sum(counters["graph_break"].values()),
    }


def main() -> None:
    """Print, by case, what was found."""
    torch.set_num_threads(1)
    for name, (spec, compile) in CASES.items():
        for dtype in (torch.float32, torch.bfloat16) if name == "blocks" else (torch.float32,):
            print(json.dumps([name, str(dtype), told(spec, compile, dtype)]))
