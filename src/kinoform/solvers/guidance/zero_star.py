"""CFG-Zero*: a negative velocity that is scaled first, and steps of no velocity at the beginning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.errors import UsageError
from kinoform.numbers import settle, whole
from kinoform.solvers.guidance.around import Around
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Combination, CombiningRule, GuidanceStep
from kinoform.solvers.predictions import NEGATIVE, POSITIVE, Prediction
from kinoform.types import Latents, Velocity

MOST_ZERO = 1000
EPSILON = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroStar(Around):
    """CFG-Zero* (Fan et al. 2025): `rule` with a u in place of the negative velocity u, and 0 at the beginning.

    a = <c, u> / (<u, u> + 1e-8), of each sample by itself, as in diffusers. The velocity is 0, and nothing is
    evaluated, in the first `zero_steps` steps of the list; a video that begins later passes none of them.
    Raises UsageError for a negative number of steps.
    """

    base: ClassVar[bool] = True
    zero_steps: int = 1
    rule: CombiningRule = field(default_factory=PlainGuidance)

    def __post_init__(self) -> None:
        settle(self, zero_steps=whole("zero_steps", self.zero_steps, 0, MOST_ZERO))
        self.check_inside()

    def check(self, steps: int) -> None:
        """Raises UsageError where every step would be zero, and where `rule` does."""
        self.rule.check(steps)
        if self.zero_steps >= steps:
            raise UsageError(
                f"zero_steps is {self.zero_steps} of {steps} steps; take more steps, or zero fewer",
                code="too_few_steps",
            )

    def at(self, step: GuidanceStep) -> Combination:
        if step.index < self.zero_steps:
            return Combination((), lambda x, velocities, state: (torch.zeros_like(x), state))
        inner = self.rule.at(step)
        if NEGATIVE not in inner.asked:
            return inner

        def combine(x: Latents, velocities: Mapping[Prediction, Velocity], state: Any) -> tuple[Velocity, Any]:
            negative = velocities[NEGATIVE]
            scaled = projection(velocities[POSITIVE], negative) * negative
            return inner.combine(x, {**velocities, NEGATIVE: scaled}, state)

        return Combination(tuple(dict.fromkeys((POSITIVE, *inner.asked))), combine)


def projection(positive: Velocity, negative: Velocity) -> Float[Tensor, "b 1 1 1 1"]:
    """a that brings a * negative nearest to positive, sample by sample, in float32 at least; 0 for a negative of 0."""
    wide = torch.promote_types(negative.dtype, torch.float32)
    towards, away = positive.to(wide).flatten(1), negative.to(wide).flatten(1)
    scale = [torch.dot(v, u) / (torch.dot(u, u) + EPSILON) for v, u in zip(towards, away, strict=True)]
    return torch.stack(scale).reshape(-1, 1, 1, 1, 1)
