"""Guidance in an interval of noise levels alone."""

from dataclasses import dataclass, field

from kinoform.errors import UsageError
from kinoform.numbers import real, settle
from kinoform.solvers.guidance.around import Around
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Combination, CombiningRule, GuidanceStep
from kinoform.solvers.guidance.telescope import alone
from kinoform.solvers.predictions import POSITIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval(Around):
    """Guidance by `rule` where `low` <= sigma <= `high`; elsewhere the positive velocity, by one evaluation.

    Kynkäänniemi et al. 2024. Sigma lies in 0 (clean) to 1 (noise) and is bent by the shift. Raises UsageError
    unless 0 <= low < high <= 1.
    """

    low: float = 0.0
    high: float = 1.0
    rule: CombiningRule = field(default_factory=PlainGuidance)

    def __post_init__(self) -> None:
        settle(self, low=real("low", self.low, 0.0, 1.0), high=real("high", self.high, 0.0, 1.0))
        if not self.low < self.high:
            raise UsageError(
                f"guidance from sigma {self.low} to {self.high} is no interval; give low < high, both from 0 to 1",
                code="value_out_of_range",
            )
        self.check_inside()

    def at(self, step: GuidanceStep) -> Combination:
        return self.rule.at(step) if self.low <= step.level.sigma <= self.high else alone(POSITIVE)
