"""All that changes while training: weights, optimizer, average."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.training.base import base_hash, learnt_state, load_learnt
from kinoform.training.distributed import ProcessGroup
from kinoform.training.precision import MasterWeights
from kinoform.training.stage import TrainingSpec


class Learner:
    """All that changes while training, on the module's device. `group` are the processes that share each batch.

    What learns in less than float32 has float32 copies, by which gradients add up and steps are made.
    """

    def __init__(self, module: nn.Module, spec: TrainingSpec, group: ProcessGroup) -> None:
        self.module, self.spec, self.group = module, spec, group
        self.masters = MasterWeights(module, spec.rounding)
        self.optimizer = spec.optimizer.build(self.masters.parameters.items(), group)
        self.ema = spec.ema.begin(module)

    def gradients(self, losses: Iterable[Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """Leave the group's mean gradients of the sum of losses in the parameters and return the mean of that sum.

        Each is computed when the one before it has given its gradients, so that memory is that of one.
        """
        self.optimizer.clear()
        parts: list[Tensor] = []
        for loss in losses:
            loss.backward()
            self.masters.collect()
            parts.append(loss.detach().float())
        mean = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
        self.group.mean([mean, *map(_gradient, self.masters.parameters.values())])
        return mean

    def clipped(self) -> Float[Tensor, ""]:
        """Scale the gradients down to the bound and return the norm that they had."""
        return torch.nn.utils.clip_grad_norm_(self.masters.parameters.values(), self.spec.clip)

    def apply(self, step: int, factor: float) -> None:
        """Make a step; the average follows the weights in float32, before any are rounded."""
        self.masters.begin_step()
        self.optimizer.step(factor)
        self.ema.update(self.masters.parameters, step)
        self.masters.end_step()

    def restart(self, weights: dict[str, Tensor], step: int) -> None:
        """Take over averaged weights after `step` steps, as those that learn too. Raises RuntimeError for others."""
        load_learnt(self.module, weights)
        self.masters.refresh()
        self.ema.restart(self.module, step)

    def state_dict(self) -> dict[str, Any]:
        """Return what learns and all that belongs to it, with the hash of what does not."""
        state = {
            "model": learnt_state(self.module),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
        }
        more = {"base": self._base, "masters": self.masters.state_dict()}
        return state | {name: value for name, value in more.items() if value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state, also one that holds what does not learn.

        Raises UsageError for the state of another base, RuntimeError for one that does not fit.
        """
        if state.get("base", self._base) != self._base:
            raise UsageError(
                f"the checkpoint continues weights of the hash {str(state['base'])[:12]}, and these have "
                f"{str(self._base)[:12]}; give the base that the run began with, or choose another folder",
                code="checkpoint_of_other_base",
            )
        load_learnt(self.module, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.masters.load_state_dict(state.get("masters", {}))
        self.ema.load_state_dict(state["ema"])

    @cached_property
    def _base(self) -> str | None:
        return base_hash(self.module)


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Return the gradient; zeros where no sample here used the parameter, as one of another process may have."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
