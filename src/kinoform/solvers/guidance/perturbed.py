"""Guidance away from disturbed self-attention: perturbed-attention guidance and smoothed energy guidance."""

from __future__ import annotations

from dataclasses import dataclass

from kinoform.numbers import real, settle
from kinoform.ops.layer_changes import BlurredQueries, IdentityAttention, Layers
from kinoform.solvers.guidance.contrast import Contrast
from kinoform.solvers.predictions import Prediction

MAX_BLUR = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class PerturbedAttention(Contrast):
    """PAG (Ahn et al. 2024): away from the velocity with the identity as attention in some layers; see `Contrast`."""

    layers: Layers = (9,)
    scale: float = 2.8
    start: float = 0.01
    stop: float = 0.2

    def __post_init__(self) -> None:
        self.settle_contrast()

    def third(self) -> Prediction:
        return Prediction(change=IdentityAttention(layers=self.layers))


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothedEnergy(Contrast):
    """SEG (Hong 2024): away from the velocity with blurred queries in some layers; see `Contrast`.

    `blur` is the sigma of a Gaussian in patches; from 9999 on all queries of a frame are their mean.
    """

    layers: Layers = (9,)
    scale: float = 2.8
    start: float = 0.0
    stop: float = 1.0
    blur: float = 9999.0

    def __post_init__(self) -> None:
        self.settle_contrast()
        settle(self, blur=real("blur", self.blur, 0.01, MAX_BLUR))

    def third(self) -> Prediction:
        return Prediction(change=BlurredQueries(layers=self.layers, sigma=self.blur))
