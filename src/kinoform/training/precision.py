"""Weights that learn in less than float32: what an update adds to them must not be rounded away.

A bfloat16 weight w changes by an update u only where |u| is above about |w| / 512. At usual learning rates most updates
are smaller, and plain AdamW on bfloat16 weights loses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.training.rng import step_generator

_LOW_BITS = 16
"""Bits of a float32 that a bfloat16 has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StochasticRounding:
    """Round each updated bfloat16 weight up or down at random, so that it is right in the mean; no copy is kept.

    It saves the four bytes of a weight that its float32 copy takes between two steps, and is a little noisier.
    """

    seed: int = 0


class MasterWeights:
    """The parameters of a module that learn, in float32: themselves, or a copy of each that has lower precision.

    Gradients add up in the copies, an optimizer steps them, and the module gets them rounded. With `rounding` the
    copies exist during a step alone.
    """

    def __init__(self, module: nn.Module, rounding: StochasticRounding | None = None) -> None:
        learning = {name: item for name, item in module.named_parameters() if item.requires_grad}
        self._rounding, self._updates = rounding, 0
        self._low = {name: item for name, item in learning.items() if item.dtype in (torch.bfloat16, torch.float16)}
        self.parameters = {
            name: nn.Parameter(item.detach().float()) if name in self._low else item for name, item in learning.items()
        }
        self._rest()

    def collect(self) -> None:
        """Move the gradients of low precision to the copies, adding them to what these have."""
        for item, master in self._pairs():
            if item.grad is not None:
                gradient = item.grad.float()
                master.grad = gradient if master.grad is None else master.grad.add_(gradient)
                item.grad = None

    def begin_step(self) -> None:
        """Make the copies that exist during a step alone."""
        if self._rounding is not None:
            self.refresh()

    @torch.no_grad()
    def end_step(self) -> None:
        """Round the updated copies into the module."""
        for index, (item, master) in enumerate(self._pairs()):
            if self._rounding is None or item.dtype != torch.bfloat16:
                item.copy_(master)
            else:
                # Drawn on the CPU: every process and every device rounds alike.
                generator = step_generator(self._rounding.seed + index, self._updates)
                item.copy_(stochastically_rounded(master, generator))
        self._updates += 1
        self._rest()

    def refresh(self) -> None:
        """Take over the module's weights."""
        for item, master in self._pairs():
            master.data = item.detach().float()

    def state_dict(self) -> dict[str, Any]:
        """Return the copies that last; empty where the module learns in float32."""
        if not self._low:
            return {}
        kept = {} if self._rounding else {name: self.parameters[name].detach() for name in self._low}
        return {"updates": self._updates, "tensors": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state; the module has its weights already."""
        if not self._low:
            return
        self._updates = state["updates"]
        if self._rounding is None:
            for name in self._low:
                self.parameters[name].data.copy_(state["tensors"][name])

    def _pairs(self) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        return ((item, self.parameters[name]) for name, item in self._low.items())

    def _rest(self) -> None:
        """Leave nothing of the copies but their shapes, where they exist during a step alone."""
        if self._rounding is not None:
            for item, master in self._pairs():
                master.data = torch.zeros((), device=item.device).expand(item.shape)


def stochastically_rounded(values: Float[Tensor, "*shape"], generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """Round finite float32 to bfloat16, up with a probability that is the part above the number below it."""
    noise = torch.randint(1 << _LOW_BITS, values.shape, generator=generator, dtype=torch.int32).to(values.device)
    bits = (values.contiguous().view(torch.int32) + noise) & -(1 << _LOW_BITS)
    return bits.view(torch.float32).to(torch.bfloat16)
