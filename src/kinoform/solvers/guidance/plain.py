"""Classifier-free guidance at the same scale at every level."""

from dataclasses import dataclass

from kinoform.solvers.guidance.rule import Combination, CombiningRule, GuidanceStep
from kinoform.solvers.guidance.telescope import telescoped
from kinoform.solvers.predictions import NEGATIVE, POSITIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainGuidance(CombiningRule):
    """Guidance v = u + s (c - u), Ho & Salimans 2022: c under the prompt, u under the negative one, s of the text.

    At s = 1 only c is evaluated, at s = 0 only u. `original` is the form of the paper, v = c + s (c - u), whose s is
    less by 1: at 0 it leaves c.
    """

    original: bool = False

    def at(self, step: GuidanceStep) -> Combination:
        return telescoped((NEGATIVE, POSITIVE), (step.scale() + self.original,))
