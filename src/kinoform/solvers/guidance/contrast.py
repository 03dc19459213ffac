"""Guidance away from a third prediction, that of the prompt by a transformer with some layers changed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch

from kinoform.errors import UsageError
from kinoform.numbers import real, settle, whole
from kinoform.ops.layer_changes import Layers
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Combination, CombiningRule, GuidanceStep
from kinoform.solvers.guidance.telescope import telescoped
from kinoform.solvers.predictions import NEGATIVE, POSITIVE, Prediction
from kinoform.types import Latents, Velocity

MAX_SCALE, MAX_LAYER = 100.0, 999


class Contrast(CombiningRule):
    """Guidance v = u + s (c - u) + s_k (c - k): s is the scale of the text, s_k `scale`, k the third prediction.

    k counts in the steps int(start N) < i < int(stop N) of N, as in diffusers, outside them guidance is plain. Where s
    is 1, v = k + s_k (c - k).
    """

    __slots__ = ()
    layers: Layers
    scale: float
    start: float
    stop: float

    @abstractmethod
    def third(self) -> Prediction:
        """Return the prediction k."""

    def settle_contrast(self) -> None:
        """Check the numbers, and keep them as plain ones."""
        settle(
            self,
            layers=checked_layers(self.layers),
            scale=real("scale", self.scale, 0.0, MAX_SCALE),
            start=real("start", self.start, 0.0, 1.0),
            stop=real("stop", self.stop, 0.0, 1.0),
        )
        check_window(self.start, self.stop)

    def at(self, step: GuidanceStep) -> Combination:
        active = int(self.start * step.steps) < step.index < int(self.stop * step.steps) and self.scale != 0
        if not active:
            return PlainGuidance().at(step)
        third = self.third()
        if step.scale() == 1:
            return telescoped((third, POSITIVE), (self.scale,))

        def combine(x: Latents, velocities: Mapping[Prediction, Velocity], state: Any) -> tuple[Velocity, Any]:
            wide = torch.promote_types(velocities[POSITIVE].dtype, torch.float32)
            c, u, k = (velocities[each].to(wide) for each in (POSITIVE, NEGATIVE, third))
            return u + step.scale() * (c - u) + self.scale * (c - k), state

        return Combination((POSITIVE, NEGATIVE, third), combine)


def checked_layers(layers: object) -> Layers:
    """Return layers as plain numbers. Raises UsageError for none, or others than whole numbers from 0."""
    if not isinstance(layers, tuple | list | range) or not layers:
        raise UsageError(f"layers must be a list such as [7, 8, 9], not {layers!r}", code="wrong_type")
    return tuple(whole("a layer", layer, 0, MAX_LAYER) for layer in cast("Sequence[object]", layers))


def check_window(start: float, stop: float) -> None:
    """Raise UsageError unless a share of the steps lies between start and stop."""
    if not start < stop:
        raise UsageError(
            f"guidance from {start} to {stop} of the steps is no window; give start < stop, both from 0 to 1",
            code="value_out_of_range",
        )
