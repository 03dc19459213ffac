"""Tangential damping: a negative velocity without what leads away from the positive one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from kinoform.solvers.guidance.around import Around
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Combination, CombiningRule, GuidanceStep
from kinoform.solvers.predictions import NEGATIVE, POSITIVE, Prediction
from kinoform.types import Latents, Velocity


@dataclass(frozen=True, slots=True, kw_only=True)
class Tangential(Around):
    """TCFG (Kwon et al. 2025): `rule` with the negative velocity u projected on the main direction of c and u.

    The direction is the first right-singular vector of the rows c and u, of each sample by itself, found from their
    2 x 2 matrix of inner products.
    """

    base: ClassVar[bool] = True
    rule: CombiningRule = field(default_factory=PlainGuidance)

    def __post_init__(self) -> None:
        self.check_inside()

    def at(self, step: GuidanceStep) -> Combination:
        inner = self.rule.at(step)
        if NEGATIVE not in inner.asked:
            return inner

        def combine(x: Latents, velocities: Mapping[Prediction, Velocity], state: Any) -> tuple[Velocity, Any]:
            damped = tangential(velocities[POSITIVE], velocities[NEGATIVE])
            return inner.combine(x, {**velocities, NEGATIVE: damped}, state)

        return Combination(tuple(dict.fromkeys((POSITIVE, *inner.asked))), combine)


def tangential(positive: Velocity, negative: Velocity) -> Velocity:
    """Return the negative velocity projected on the first right-singular vector of both, in float32 at least."""
    wide = torch.promote_types(negative.dtype, torch.float32)
    c, u = positive.flatten(1).double(), negative.flatten(1).double()
    between, first, second = ((a * b).sum(1, keepdim=True) for a, b in ((c, u), (c, c), (u, u)))
    angle = torch.atan2(2 * between, first - second) / 2  # the leading eigenvector is (cos, sin)
    direction = torch.nn.functional.normalize(angle.cos() * c + angle.sin() * u, dim=1)
    along = (u * direction).sum(1, keepdim=True) * direction
    return along.reshape(negative.shape).to(wide)
