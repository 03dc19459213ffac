"""Changed parameters that are no weight of a linear layer: norms, biases, modulations, the patch embedding.

They are small, so the changed parameter is made anew, in its place, when a strength is set. At strength 0 it is the
base bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CHANGED = "changed_parameters"


@dataclass(slots=True, kw_only=True)
class ChangedParameter:
    """One parameter before all changes, its differences by the name of the change, and their strengths."""

    base: Tensor
    deltas: dict[str, Tensor]
    strengths: dict[str, float]

    def value(self) -> Tensor:
        """Base + strength * difference, summed in float32 and rounded once."""
        counting = [strength * self.deltas[name] for name, strength in self.strengths.items() if strength]
        return sum(counting, self.base.float()).to(self.base.dtype) if counting else self.base


def changed_parameters(model: nn.Module) -> dict[str, ChangedParameter]:
    """The changed parameters of a model, by name in it."""
    return model.__dict__.get(CHANGED, {})


def change_parameters(model: nn.Module, name: str, deltas: Mapping[str, Tensor]) -> None:
    """Change parameters of a copy of a model by these float32 differences, at strength 1."""
    held = changed_parameters(model)
    for place, delta in deltas.items():
        before = held.get(place)
        if before is None:
            before = ChangedParameter(base=model.get_parameter(place), deltas={}, strengths={})
        before.deltas[name], before.strengths[name] = delta.to(before.base.device), 1.0
        held[place] = before
    setattr(model, CHANGED, held)
    own_parameters(model)


@torch.no_grad()
def own_parameters(model: nn.Module) -> None:
    """Give a copy changed parameters of its own, which no other model shares."""
    for place, changed in changed_parameters(model).items():
        _put(model, place, changed.value().clone())


@torch.no_grad()
def set_parameters(model: nn.Module, name: str, strength: float) -> None:
    """Make those that this change concerns anew, in the same memory, so that nothing compiled is compiled again."""
    for place, changed in changed_parameters(model).items():
        if name in changed.strengths:
            changed.strengths[name] = strength
            model.get_parameter(place).copy_(changed.value())


def restore_parameters(model: nn.Module) -> None:
    """Give a copy the parameters before all changes."""
    for place, changed in changed_parameters(model).items():
        _put(model, place, changed.base)
    setattr(model, CHANGED, {})


def _put(model: nn.Module, place: str, value: Tensor) -> None:
    owner, _, leaf = place.rpartition(".")
    if not isinstance(value, nn.Parameter):
        value = nn.Parameter(value, requires_grad=False)
    setattr(model.get_submodule(owner), leaf, value)
