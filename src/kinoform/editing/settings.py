"""Settings of edits, besides the inputs of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kinoform.numbers import Whole, real, settle, whole

MAX_PIXELS = 512
"""Largest growth and feather of a mask; for more, draw a larger mask."""

MAX_MARGIN = 100.0
MAX_OVERLAP = 100_000

GROW_DIVISOR, FEATHER_DIVISOR = 64, 32
"""Shares of a video's shorter side by which a mask grows (1/64) and is feathered (1/32) by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditSettings:
    """Settings of `edit`.

    `grow` and `feather` are pixels of the source; None takes a 64th and a 32nd of its shorter side. The model sees
    `margin` lengths of the mask's longer side around the mask. Segments overlap by at least `overlap` frames (None: a
    quarter of a segment). `match_colours` matches the colours of the model's output to those of the source around the
    mask. Without `show_source` the model sees grey under the mask. `fit_mask` stretches a mask of another size, and
    spreads one of another length. Raises UsageError for values out of range.
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
            grow=None if self.grow is None else whole("grow", self.grow, 0, MAX_PIXELS),
            feather=None if self.feather is None else real("feather", self.feather, 0.0, float(MAX_PIXELS)),
            margin=real("margin", self.margin, 0.0, MAX_MARGIN),
            overlap=None if self.overlap is None else whole("overlap", self.overlap, 1, MAX_OVERLAP),
        )

    def edge(self, size: tuple[int, int]) -> tuple[int, float]:
        """Return the growth and the feather of a mask, in pixels of a video of this size (height, width)."""
        shorter = min(size)
        grow = math.ceil(shorter / GROW_DIVISOR) if self.grow is None else self.grow
        return grow, float(math.ceil(shorter / FEATHER_DIVISOR)) if self.feather is None else float(self.feather)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendSettings:
    """Settings of `extend`: new frames come after a video, or `before` it.

    `context` is the number of the video's frames that the model is given (None: 9, or half of those that it makes at
    once; the plan checks it). `match_colours` matches the colours of the new frames to the video.
    """

    before: bool = False
    context: Whole | None = None
    match_colours: bool = True
