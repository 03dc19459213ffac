"""A rule of guidance in one file: the scale fades from that of the request to 1 as the noise does.

    kinoform generate "a red ball moves left" --guidance 4 --recipe fading_guidance:recipe

From this folder; from the root of the repository it is `--recipe examples.ideas.fading_guidance:recipe`. In Python a
rule is an argument of a request too: `pipe("a red ball moves left", guidance_scale=4, guidance_rule=Fading())`.

v = u + s(sigma) (c - u), s(sigma) = 1 + (s - 1) sigma^power, with c under the prompt and u under the negative one. A
rule says for each step which predictions it asks for, and how they are combined; at s = 1 it asks for c alone, so that
a forward is saved, and `kinoform plan` counts what it asks for. Rules of the package stand around it too:
`Rescale(rule=Fading())`. A video names the rule by its class, and is made again by
`kinoform rerun VIDEO --recipe fading_guidance:recipe --model mini`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from kinoform.api import Combination, CombiningRule, GuidanceStep, Prediction, Recipe
from kinoform.mini import mini

POSITIVE, NEGATIVE = Prediction(), Prediction(prompt=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fading(CombiningRule):
    """Guidance whose scale is that of the text at sigma = 1, and 1 at sigma = 0."""

    power: float = 1.0

    def at(self, step: GuidanceStep) -> Combination:
        """Return what this step asks for: both prompts, or the prompt alone where the scale is 1."""
        scale = 1 + (step.scale() - 1) * step.level.sigma**self.power
        if scale == 1:
            return Combination((POSITIVE,), lambda x, velocities, state: (velocities[POSITIVE], state))

        def combine(x: Tensor, velocities: Mapping[Prediction, Tensor], state: Any) -> tuple[Tensor, Any]:
            negative = velocities[NEGATIVE]
            return negative + scale * (velocities[POSITIVE] - negative), state

        return Combination((POSITIVE, NEGATIVE), combine)


def recipe() -> Recipe:
    """Return the recipe of `mini` with this rule."""
    return replace(mini(), guidance_rule=Fading())
