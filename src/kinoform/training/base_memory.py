"""Memory of the base that is tuned: on the device, or in the host's memory, packed or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import torch

from kinoform.models.dit import DiTSpec, keeps_float32
from kinoform.models.linear import Linear, named_modules
from kinoform.models.meta import on_meta
from kinoform.models.protocols import Block
from kinoform.plan.modules import FLOAT32


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePlacing:
    """Matrices of a base that stay as their file stores them, `packed` with their bytes by name, and the number of
    blocks whose matrices stay in the host's memory. Neither changes what is learnt."""

    packed: Mapping[str, int] = field(default_factory=dict[str, int])
    swap_blocks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseMemory:
    """Bytes of a base: on the `device`, with one matrix there that is made for its product, and on the `host`.

    `packed` are those on either that are as their file stores them.
    """

    device: int
    host: int
    packed: int


def base_memory(spec: DiTSpec, dtype: torch.dtype, whole: int, placing: BasePlacing) -> BaseMemory:
    """Count a base that takes `whole` bytes where all of it lies unpacked on the device."""
    matrices, packed = _matrices(spec), placing.packed
    stored = {name: packed.get(name, item.numbers * dtype.itemsize) for name, item in matrices.items()}
    swapped = [name for name, item in matrices.items() if item.block is not None and item.block < placing.swap_blocks]
    made = (
        matrices[name].numbers * (dtype.itemsize + (FLOAT32 if name in packed else 0)) for name in {*swapped, *packed}
    )
    saved = sum(matrices[name].numbers * dtype.itemsize - stored[name] for name in packed)
    host = sum(stored[name] for name in swapped)
    return BaseMemory(device=whole - saved - host + max(made, default=0), host=host, packed=sum(packed.values()))


class _Matrix(NamedTuple):
    numbers: int
    block: int | None


@lru_cache(maxsize=8)
def _matrices(spec: DiTSpec) -> Mapping[str, _Matrix]:
    """Return the matrices of a transformer's linear layers that have its dtype, with the numbers of their blocks."""
    model = on_meta(spec.build)
    blocks: dict[int, int] = {}
    for number, block in enumerate(part for part in model.modules() if isinstance(part, Block)):
        blocks |= {id(layer): number for _, layer in named_modules(block, Linear)}
    return {
        f"{name}.weight": _Matrix(layer.weight.numel(), blocks.get(id(layer)))
        for name, layer in named_modules(model, Linear)
        if not keeps_float32(f"{name}.weight")
    }
