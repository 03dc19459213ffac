"""DPM-Solver++: extrapolate the data prediction through the last two or three (Lu et al. 2022)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from kinoform.numbers import settle, whole
from kinoform.solvers.base import State, data_prediction, initial_state, interval
from kinoform.solvers.levels import dpmpp_levels
from kinoform.solvers.multistep import blend, moments, nodes, slope, span
from kinoform.types import Field, Latents, Level

Predictions: TypeAlias = tuple[Latents, ...]
"""Data predictions of consecutive steps, the latest first."""

MAX_ORDER = 3
SHORT_RUN = 15


def midpoint(h: float) -> float:
    """1/2: the slope's mean over the step, in the limit of small steps."""
    return 0.5


def heun(h: float) -> float:
    """b_1 = 1 / (1 - exp(-h)) - 1/h: the slope's mean over the step, exactly."""
    return moments(h, 1)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class DPMSolver:
    """DPM-Solver++ of `order` 1, 2 or 3: multistep, one evaluation a step, no noise added.

    `second_order`, `midpoint` or `heun`, weighs the slope in steps of order 2. The official third order
    counts only half of the curvature, so its error falls like h^2, with a smaller factor than order 2.
    Raises UsageError for other orders.
    """

    order: int = 2
    second_order: Callable[[float], float] = midpoint

    def __post_init__(self) -> None:
        settle(self, order=whole("order", self.order, 1, MAX_ORDER))

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        return dpmpp_levels(steps, shift)

    def init(self, x: Latents) -> State[Predictions]:
        return initial_state(x, ())

    def step(
        self, state: State[Predictions], field: Field, levels: tuple[Level, ...], index: int
    ) -> State[Predictions]:
        level, target = interval(levels, index)
        x0 = data_prediction(state.x, field, level)
        known = (x0, *state.history)
        used = known[: self._ceiling(index, len(levels) - 1)]
        estimate = self._estimate(used, levels, index)
        return State(x=blend(state.x, estimate, level, target), x0=x0, history=known[: self.order - 1])

    def _ceiling(self, index: int, steps: int) -> int:
        """The highest order at this step: 1 at the end; 2 just before it, if the run is short."""
        left = steps - index
        return min(self.order, left) if left == 1 or steps < SHORT_RUN else self.order

    def _estimate(self, known: Predictions, levels: tuple[Level, ...], index: int) -> Latents:
        """The mean data prediction of the step, by the polynomial through the `known` ones."""
        x0, *earlier = known
        if not earlier:
            return x0
        h, places = span(levels, index), nodes(levels, index, len(earlier))
        first = slope(x0, earlier[0], places[0])
        if len(earlier) == 1:
            return x0 + self.second_order(h) * first
        second = slope(earlier[0], earlier[1], places[1] - places[0])
        b1, b2 = moments(h, 2)
        slope_here = first + places[0] / places[1] * (first - second)
        curvature = (second - first) / places[1]
        # Half of b_2, where the polynomial asks for all of it: the official code's third order.
        return x0 + b1 * slope_here + b2 / 2 * curvature
