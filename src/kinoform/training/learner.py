"""All that changes while training: weights, optimizer, average."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.training.distributed import ProcessGroup
from kinoform.training.stage import TrainingSpec


class Learner:
    """All that changes while training, on the module's device. `group` are the processes that share each batch."""

    def __init__(self, module: nn.Module, spec: TrainingSpec, group: ProcessGroup) -> None:
        self.module, self.spec, self.group = module, spec, group
        self.optimizer = spec.optimizer.build(module.named_parameters(), group)
        self.ema = spec.ema.begin(module)
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def gradients(self, losses: Iterable[Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """Leave the group's mean gradients of the sum of losses in the parameters and return the mean of that sum.

        Each is computed when the one before it has given its gradients, so that memory is that of one.
        """
        self.optimizer.clear()
        parts: list[Tensor] = []
        for loss in losses:
            loss.backward()
            parts.append(loss.detach().float())
        mean = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
        self.group.mean([mean, *map(_gradient, self._parameters)])
        return mean

    def clipped(self) -> Float[Tensor, ""]:
        """Scale the gradients down to the bound and return the norm that they had."""
        return torch.nn.utils.clip_grad_norm_(self._parameters, self.spec.clip)

    def apply(self, step: int, factor: float) -> None:
        self.optimizer.step(factor)
        self.ema.update(self.module, step)

    def restart(self, weights: dict[str, Tensor], step: int) -> None:
        """Take over averaged weights after `step` steps, as those that learn too. Raises RuntimeError for others."""
        self.module.load_state_dict(weights)
        self.ema.restart(self.module, step)

    def state_dict(self) -> dict[str, Any]:
        parts = {"model": self.module, "optimizer": self.optimizer, "ema": self.ema}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Return the gradient; zeros where no sample here used the parameter, as one of another process may have."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
