"""Weights and inputs by the rule with which figures were recorded from the official code, and the figures."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def fill(model: nn.Module, official: Mapping[str, str], scale: float) -> None:
    """Weight k of the sorted official names (mapped to own names) is drawn from seed 1000 + k; norms get + 1."""
    state = model.state_dict()
    assert set(official.values()) == set(state), "every weight has an official name"
    for place, name in enumerate(sorted(official)):
        value = drawn(1000 + place, *state[official[name]].shape) * scale
        if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
            value = value + 1
        state[official[name]].copy_(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was recorded of one tensor, flattened."""

    count: int
    mean: float
    std: float
    first: tuple[float, float, float, float]
    last: float

    def check(self, ours: Tensor) -> None:
        """Every figure lies within 1e-5 of the tensor's spread, and of the digits that were written down."""
        flat = ours.detach().double().flatten()
        found = [flat.mean(), flat.std(), *flat[:4], flat[-1]]
        wanted = torch.tensor([self.mean, self.std, *self.first, self.last], dtype=torch.float64)
        gap = ((torch.stack(found) - wanted).abs().max() / self.std).item()
        print(f"farthest figure: {gap:.1e} of the spread")
        assert flat.numel() == self.count
        assert gap == pytest.approx(0, abs=1e-5)


def spread(model: nn.Module, seed: int, scale: float = 0.3) -> None:
    """Every weight random, zero gates and heads too, so that nothing passes a test by being off."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        weight.data.copy_(torch.randn(weight.shape, generator=generator))
        fan_in = weight[0].numel() if weight.dim() > 1 else 1
        weight.data.mul_(scale if weight.dim() == 1 else fan_in**-0.5)
        if "norm" in name and not name.endswith("bias"):
            weight.data.add_(1)


def gap(ours: Tensor, theirs: Tensor) -> float:
    """The RMS of the difference over the RMS of `theirs`; infinite where shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    return ((ours - theirs).square().mean() / theirs.square().mean()).sqrt().item()
