"""Weights of the loss by noise level; no weighting is None, which all released Wan models suggest and we default to.

All weigh the squared error of the *velocity*. Their mean over levels drawn evenly is 1 where this is said, so that a
learning rate means the same; what a training really weighs depends on its levels too (`training.like` prints both).
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.numbers import real, settle
from kinoform.solvers.levels import shifted


@runtime_checkable
class Weighting(Protocol):
    """Factor of the loss of a sample at a noise level, by value."""

    def weight(self, sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the factors at levels in (0, 1), float32, none below 0."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MinSNR:
    """Min-SNR weighting, which counts the levels of little noise less than the error of the data would.

    Hang et al. 2023, "Efficient diffusion training via min-SNR weighting strategy", weigh the squared error of the
    predicted *data* by min(SNR, gamma). On the straight path SNR = ((1 - sigma) / sigma)², and an error e of the
    velocity is one of sigma e in the data, hence min(SNR, gamma) sigma² = min((1 - sigma)², gamma sigma²) here: 0 at
    either end, largest at sigma = 1 / (1 + sqrt(gamma)). Divided by its mean over even levels. Raises UsageError for a
    gamma that is not from 0.01 to 1000.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        settle(self, gamma=real("gamma of min-snr", self.gamma, 0.01, 1000.0))

    def weight(self, sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        peak = 1 / (1 + math.sqrt(self.gamma))
        mean = (self.gamma * peak**3 + (1 - peak) ** 3) / 3
        return torch.minimum((1 - sigma).square(), self.gamma * sigma.square()).float() / mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Bell:
    """Bell of DiffSynth around sigma = 1/2: exp(-2 (sigma - 1/2)²) less its value at either end, which so weigh 0.

    Its mean over the 1000 entries of a grid of this shift is 1. At shift 5 the weight is 2.08 at sigma 0.5 and 0.64 at
    0.9, so that the expert of high noise learns little, and the first step of generation nothing. Raises UsageError for
    a shift that is not from 0.001 to 1000.
    """

    shift: float = 5.0

    def __post_init__(self) -> None:
        settle(self, shift=real("the shift of the bell's grid", self.shift, 0.001, 1000.0))

    def weight(self, sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        grid = shifted(torch.arange(1, 1001, dtype=torch.float64) / 1000, self.shift)
        return (_bell(sigma.double()) / _bell(grid).mean()).clamp(min=0).float()


@dataclass(frozen=True, slots=True, kw_only=True)
class SigmaSqrt:
    """sigma to the power -2, called sigma_sqrt by Esser et al. 2024 (Stable Diffusion 3) and its descendants.

    It has no mean: `largest` bounds it, by default at its value at timestep 1. Raises UsageError for a bound that is
    not from 1 to 10¹².
    """

    largest: float = 1e6

    def __post_init__(self) -> None:
        settle(self, largest=real("the largest weight of sigma-sqrt", self.largest, 1.0, 1e12))

    def weight(self, sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return sigma.float().pow(-2).clamp(max=self.largest)


@dataclass(frozen=True, slots=True, kw_only=True)
class CosMap:
    """2 / (pi (1 - 2 sigma + 2 sigma²)): the density of the cosine schedule's levels, as a weight (Esser et al. 2024).

    From 0.64 at either end to 1.27 in the middle, in the mean over even levels 1.
    """

    def weight(self, sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return 2 / (math.pi * (1 - 2 * sigma + 2 * sigma.square())).float()


def _bell(sigma: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return torch.exp(-2 * (sigma - 0.5).square()) - math.exp(-0.5)
