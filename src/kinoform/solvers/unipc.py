"""UniPC: predict, then correct each step with the next step's evaluation (Zhao et al. 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kinoform.numbers import settle, whole
from kinoform.solvers.base import State, data_prediction, initial_state, interval
from kinoform.solvers.levels import unipc_levels
from kinoform.solvers.multistep import blend, nodes, slope, span, weights
from kinoform.types import Field, Latents, Level

MAX_ORDER = 1000
"""The largest number of steps: a higher order has no predictions to be made from. 2 is usual."""

NEXT = 1.0
"""The node of the prediction at the end of the step, which only the corrector knows."""


class Past(NamedTuple):
    """`anchor`: the corrected latents that the last step began from; `predictions`: its data prediction
    and those before, the latest first; `order`: of its predictor, 0 before any step."""

    anchor: Latents
    predictions: tuple[Latents, ...]
    order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UniPC:
    """UniPC of any `order` from 1, in the B2 form with data prediction: one evaluation a step.

    The predictor's order rises from 1 in the first steps and falls to 1 in the last ones; the corrector's
    is that of the predictor whose result it replaces. `uncorrected` holds the indices of the steps whose
    result stays as predicted. Raises UsageError for an order below 1 or above MAX_ORDER.
    """

    order: int = 2
    uncorrected: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        settle(self, order=whole("order", self.order, 1, MAX_ORDER))

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        return unipc_levels(steps, shift)

    def init(self, x: Latents) -> State[Past]:
        return initial_state(x, Past(anchor=x, predictions=(), order=0))

    def step(self, state: State[Past], field: Field, levels: tuple[Level, ...], index: int) -> State[Past]:
        level, target = interval(levels, index)
        # From the predicted x, and not evaluated again at the corrected one.
        x0 = data_prediction(state.x, field, level)
        x = self._corrected(state, x0, levels, index)
        known = (x0, *state.history.predictions)[: self.order]
        order = min(len(known), len(levels) - 1 - index)
        estimate = _estimate(known[:order], nodes(levels, index, order - 1), span(levels, index))
        past = Past(anchor=x, predictions=known, order=order)
        return State(x=blend(x, estimate, level, target), x0=x0, history=past)

    def _corrected(self, state: State[Past], x0: Latents, levels: tuple[Level, ...], index: int) -> Latents:
        """The last step once more, now that the data prediction at its end is known."""
        last, past = index - 1, state.history
        if past.order == 0 or last in self.uncorrected:
            return state.x
        known = (*past.predictions[: past.order], x0)
        places = (*nodes(levels, last, past.order - 1), NEXT)
        estimate = _estimate(known, places, span(levels, last))
        return blend(past.anchor, estimate, levels[last], levels[index])


def _estimate(known: Sequence[Latents], places: tuple[float, ...], h: float) -> Latents:
    """The mean data prediction of a step from known[0], through the others at their `places`."""
    here, *others = known
    terms = zip(weights(places, h), others, places, strict=True)
    return sum((rho * slope(here, there, place) for rho, there, place in terms), start=here)
