"""Normalised attention guidance: the negative prompt inside cross-attention, by one prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kinoform.numbers import real, settle, whole
from kinoform.ops.layer_changes import NegativeAttention
from kinoform.solvers.guidance.rule import Combination, CombiningRule, GuidanceStep
from kinoform.solvers.guidance.telescope import alone
from kinoform.solvers.predictions import POSITIVE, Prediction

MAX_NUMBER = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizedAttention(CombiningRule):
    """NAG (Chen et al. 2025), for models that are not guided: one prediction, whose cross-attention is led away from
    the negative prompt; see `normalized_attention`.

    Active while sigma >= `sigma_end`; at `scale` 1 it is off. The scales of guidance are not read. With images given,
    lower tau and alpha are usual. `norm` is 1, or 2 as in the first release.
    """

    takes_rules: ClassVar[bool] = False
    scale: float = 5.0
    tau: float = 2.5
    alpha: float = 0.25
    sigma_end: float = 0.0
    norm: int = 1

    def __post_init__(self) -> None:
        settle(
            self,
            scale=real("scale", self.scale, 1.0, MAX_NUMBER),
            tau=real("tau", self.tau, 0.0, MAX_NUMBER),
            alpha=real("alpha", self.alpha, 0.0, 1.0),
            sigma_end=real("sigma_end", self.sigma_end, 0.0, 1.0),
            norm=whole("norm", self.norm, 1, 2),
        )

    def at(self, step: GuidanceStep) -> Combination:
        if self.scale == 1 or step.level.sigma < self.sigma_end:
            return alone(POSITIVE)
        change = NegativeAttention(scale=self.scale, tau=self.tau, alpha=self.alpha, norm=self.norm)
        return alone(Prediction(change=change))
