"""Skip-layer guidance, and the rule of the same name that skips layers under the negative prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kinoform.numbers import check_kind, real, settle
from kinoform.ops.layer_changes import BlockPart, Layers, SkipLayers
from kinoform.solvers.guidance.contrast import Contrast, check_window, checked_layers
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Combination, CombiningRule, GuidanceStep
from kinoform.solvers.guidance.telescope import telescoped
from kinoform.solvers.predictions import POSITIVE, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipLayerGuidance(Contrast):
    """Guidance away from the prompt's velocity without some layers, as in Stable Diffusion 3.5; see `Contrast`.

    With N = 40 steps the layers are skipped in steps 1 to 7. `part` says what of them is skipped. Three predictions.
    """

    layers: Layers = (9,)
    scale: float = 2.8
    start: float = 0.01
    stop: float = 0.2
    part: BlockPart = BlockPart.BLOCK

    def __post_init__(self) -> None:
        self.settle_contrast()
        check_kind("part", self.part, BlockPart, "BlockPart.BLOCK")

    def third(self) -> Prediction:
        return Prediction(change=SkipLayers(layers=self.layers, part=self.part))


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipNegativeLayers(CombiningRule):
    """Plain guidance whose negative velocity is made without some blocks, where start <= i/N <= stop for step i of N.

    The "SLG" of the Wan community: two predictions, one of them shorter.
    """

    takes_base: ClassVar[bool] = False
    layers: Layers = (10,)
    start: float = 0.1
    stop: float = 1.0

    def __post_init__(self) -> None:
        settle(
            self,
            layers=checked_layers(self.layers),
            start=real("start", self.start, 0.0, 1.0),
            stop=real("stop", self.stop, 0.0, 1.0),
        )
        check_window(self.start, self.stop)

    def at(self, step: GuidanceStep) -> Combination:
        if not self.start * step.steps <= step.index <= self.stop * step.steps:
            return PlainGuidance().at(step)
        shorter = Prediction(prompt=False, change=SkipLayers(layers=self.layers))
        return telescoped((shorter, POSITIVE), (step.scale(),))
