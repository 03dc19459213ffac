"""Telescoping sums: velocities under more and more conditions, each step of the sequence with its own weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from kinoform.solvers.guidance.rule import Combination
from kinoform.solvers.predictions import Prediction
from kinoform.types import Latents, Velocity


def telescoped(nested: Sequence[Prediction], weights: Sequence[float]) -> Combination:
    """Return base + sum_k w_k (f_k - f_(k-1)) for f_0, f_1, ... in `nested`, of which f_0 is the base.

    What gets the coefficient 0 as f_k gets w_k - w_(k+1) is not asked for. A single prediction is the velocity as it
    is, several are combined in float32 at least.
    """
    inner = (1.0, *weights, 0.0)
    kept = [(prediction, w) for prediction, (w, other) in zip(nested, pairwise(inner), strict=True) if w != other]

    def combine(x: Latents, velocities: Mapping[Prediction, Velocity], state: Any) -> tuple[Velocity, Any]:
        (base, _), *others = kept
        total = before = velocities[base]
        for prediction, weight in others:
            velocity = velocities[prediction]
            total = beyond(total, before, velocity, weight)
            before = velocity
        return total, state

    return Combination(tuple(prediction for prediction, _ in reversed(kept)), combine)


def beyond(total: Velocity, start: Velocity, end: Velocity, weight: float) -> Velocity:
    """Return total + weight (end - start), in float32 at least."""
    wide = torch.promote_types(end.dtype, torch.float32)
    return total.to(wide) + weight * (end.to(wide) - start.to(wide))


def alone(prediction: Prediction) -> Combination:
    """Return one prediction as it is."""
    return Combination((prediction,), lambda x, velocities, state: (velocities[prediction], state))
