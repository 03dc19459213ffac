"""Guidance that weakens where the two velocities differ much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from kinoform.numbers import real, settle
from kinoform.solvers.guidance.rule import Combination, CombiningRule, GuidanceStep
from kinoform.solvers.guidance.telescope import alone
from kinoform.solvers.predictions import NEGATIVE, POSITIVE, Prediction
from kinoform.types import Latents, Velocity

MAX_ALPHA = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MagnitudeAware(CombiningRule):
    """MAMBO-G: v = u + (1 + (s - 1) e^(-alpha q)) (c - u) with q = |c - u| / |u| of each sample, s of the text.

    Zhu et al. 2025. Raises UsageError unless alpha is 0 to 1000.
    """

    alpha: float = 8.0

    def __post_init__(self) -> None:
        settle(self, alpha=real("alpha", self.alpha, 0.0, MAX_ALPHA))

    def at(self, step: GuidanceStep) -> Combination:
        scale = step.scale()
        if scale == 1:
            return alone(POSITIVE)

        def combine(x: Latents, velocities: Mapping[Prediction, Velocity], state: Any) -> tuple[Velocity, Any]:
            wide = torch.promote_types(velocities[POSITIVE].dtype, torch.float32)
            c, u = velocities[POSITIVE].to(wide), velocities[NEGATIVE].to(wide)
            size, own = (each.flatten(1).square().sum(1).sqrt() for each in (c - u, u))
            weight = 1 + (scale - 1) * torch.exp(-self.alpha * size / own)
            return u + weight.reshape(-1, 1, 1, 1, 1) * (c - u), state

        return Combination((POSITIVE, NEGATIVE), combine)
