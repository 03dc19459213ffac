"""Settings of an edit besides what the model is told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kinoform.numbers import real, settle, whole

MOST_PIXELS = 512
"""The widest rim of a mask; beyond it a larger mask is what is meant."""

MOST_MARGIN = 100.0
MOST_FRAMES = 100_000

GROWN, FEATHERED = 64, 32
"""Shares of a video's shorter side that a mask grows and is feathered by, where nobody says: 1/64 and 1/32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditSettings:
    """`grow` and `feather` are pixels of the source; None takes a 64th and a 32nd of its shorter side.

    `margin` is what the model sees around the mask, in lengths of the mask's longer side; `overlap` the frames that
    two segments share at least (None: a quarter of a segment). `match_colours` brings what is made to the colours
    of the source around the mask. Without `show_source` the model sees grey under the mask. `fit_mask` stretches a
    mask of another size, and spreads one of another length.
    Raises UsageError for values out of range.
    """

    grow: int | None = None
    feather: float | None = None
    margin: float = 1.0
    overlap: int | None = None
    match_colours: bool = True
    show_source: bool = True
    fit_mask: bool = False

    def __post_init__(self) -> None:
        settle(
            self,
            grow=None if self.grow is None else whole("grow", self.grow, 0, MOST_PIXELS),
            feather=None if self.feather is None else real("feather", self.feather, 0.0, float(MOST_PIXELS)),
            margin=real("margin", self.margin, 0.0, MOST_MARGIN),
            overlap=None if self.overlap is None else whole("overlap", self.overlap, 1, MOST_FRAMES),
        )

    def rim(self, size: tuple[int, int]) -> tuple[int, float]:
        """(grow, feather) of a video of this size (height, width)."""
        shorter = min(size)
        grow = math.ceil(shorter / GROWN) if self.grow is None else self.grow
        return grow, float(math.ceil(shorter / FEATHERED)) if self.feather is None else float(self.feather)
