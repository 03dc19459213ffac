"""The seven guidance modes of Bernini-R, as values.

Sources: the official sampler; names of its branches: none (no condition), V (the first video alone), I (images), VI
(everything), each under the negative or the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kinoform.solvers.guidance.projected import ProjectedChain
from kinoform.solvers.guidance.rule import Combination, CombiningRule, GuidanceStep
from kinoform.solvers.guidance.telescope import telescoped
from kinoform.solvers.predictions import IMAGES, MORE_VIDEOS, NEGATIVE, POSITIVE, VIDEO, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Telescope(CombiningRule):
    """Guidance base + sum_k w_k (f_k - f_(k-1)) along `nested` predictions; w_k is the scale of `conditions[k - 1]`.

    Predictions of the coefficient 0 are not evaluated.
    """

    takes_base: ClassVar[bool] = False
    nested: tuple[Prediction, ...]
    conditions: tuple[str, ...]

    def at(self, step: GuidanceStep) -> Combination:
        return telescoped(self.nested, tuple(map(step.scale, self.conditions)))


NONE = frozenset({VIDEO, MORE_VIDEOS, IMAGES})
UNCONDITIONED = Prediction(prompt=False, without=NONE)
FIRST_VIDEO = Prediction(prompt=False, without=frozenset({MORE_VIDEOS, IMAGES}))
ONLY_IMAGES = frozenset({VIDEO, MORE_VIDEOS})

RV2V = Telescope(nested=(UNCONDITIONED, FIRST_VIDEO, NEGATIVE, POSITIVE), conditions=("video", "images", "text"))
V2V = Telescope(nested=(NEGATIVE, POSITIVE), conditions=("text",))
V2V_CHAIN = Telescope(nested=(UNCONDITIONED, FIRST_VIDEO, POSITIVE), conditions=("video", "text"))
T2V = Telescope(nested=(UNCONDITIONED, Prediction(without=NONE)), conditions=("text",))
V2V_APG = ProjectedChain(nested=(NEGATIVE, POSITIVE), conditions=("text",))
T2V_APG = ProjectedChain(nested=(UNCONDITIONED, Prediction(without=NONE)), conditions=("text",))
R2V_APG = ProjectedChain(
    nested=(UNCONDITIONED, Prediction(prompt=False, without=ONLY_IMAGES), Prediction(without=ONLY_IMAGES)),
    conditions=("images", "text"),
)
