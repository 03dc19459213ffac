"""The moving average of the weights, which makes better videos than the last weights do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kinoform.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class EMASpec:
    """Moving average of weights: update n (from 0) keeps min(decay, (1 + n) / (10 + n)) of it, `every` steps."""

    decay: float = 0.985
    every: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1 or self.every < 1:
            raise UsageError(
                f"an average needs 0 <= decay < 1 and every >= 1; got decay {self.decay}, every {self.every}",
                code="value_out_of_range",
            )

    def begin(self, module: nn.Module) -> "EMA":
        return EMA(module, self)


class EMA:
    """Float32 copies of one module's trained parameters; buffers and frozen parameters are not averaged."""

    def __init__(self, module: nn.Module, spec: EMASpec) -> None:
        self._spec = spec
        self._updates = 0
        self.tensors = {name: parameter.detach().float().clone() for name, parameter in _trained(module).items()}

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Move towards the weights after the step with index `step`, by name, when it is that step's turn."""
        if (step + 1) % self._spec.every:
            return
        n = self._updates
        keep = min(self._spec.decay, (1 + n) / (10 + n))
        for name, tensor in self.tensors.items():
            tensor.lerp_(weights[name].float(), 1 - keep)
        self._updates = n + 1

    def restart(self, module: nn.Module, step: int) -> None:
        """Begin at a module's weights after `step` steps, as slowly as if the average had been kept until there."""
        self._updates = step // self._spec.every
        for name, parameter in _trained(module).items():
            self.tensors[name].copy_(parameter.detach())

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Give a module with the same parameter names the averaged weights, in its own precision."""
        for name, parameter in _trained(module).items():
            parameter.copy_(self.tensors[name])

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """Lend the averaged weights to the module; its own come back at the end, whatever happens."""
        own = {name: parameter.detach().clone() for name, parameter in _trained(module).items()}
        try:
            self.copy_to(module)
            yield
        finally:
            with torch.no_grad():
                for name, parameter in _trained(module).items():
                    parameter.copy_(own[name])

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self._updates, "tensors": self.tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._updates = state["updates"]
        for name, tensor in self.tensors.items():
            tensor.copy_(state["tensors"][name])


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
