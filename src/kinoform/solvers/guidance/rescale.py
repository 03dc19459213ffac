"""Rescaled guidance: a velocity as much spread as the positive one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kinoform.numbers import real, settle
from kinoform.solvers.guidance.around import Around
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Combination, CombiningRule, GuidanceStep
from kinoform.solvers.predictions import Prediction
from kinoform.types import Latents, Velocity


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescale(Around):
    """v' = r v std(c)/std(v) + (1 - r) v of the v of `rule`, c under all conditions and r in [0, 1] the `share`.

    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps Are Flawed", section 3.4; std of each sample
    over all other axes, unbiased. A prediction that is not guided stays as it is.
    """

    share: float = 0.7
    rule: CombiningRule = field(default_factory=PlainGuidance)

    def __post_init__(self) -> None:
        settle(self, share=real("share", self.share, 0.0, 1.0))
        self.check_inside()

    def at(self, step: GuidanceStep) -> Combination:
        inner = self.rule.at(step)
        if len(inner.asked) < 2 or self.share == 0:
            return inner

        def combine(x: Latents, velocities: Mapping[Prediction, Velocity], state: Any) -> tuple[Velocity, Any]:
            guided, state = inner.combine(x, velocities, state)
            axes = tuple(range(1, guided.ndim))
            wanted = velocities[inner.asked[0]].to(guided.dtype).std(axes, keepdim=True)
            even = guided * (wanted / guided.std(axes, keepdim=True))
            return self.share * even + (1 - self.share) * guided, state

        return Combination(inner.asked, combine)
