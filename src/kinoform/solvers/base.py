"""Solvers: their protocol, and the one loop that runs one from noise to a video."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch

from kinoform.errors import UsageError
from kinoform.solvers.field import StatefulField, stateful
from kinoform.types import Field, Latents, Level, Velocity

History = TypeVar("History")
Constraint = Callable[[Latents, Level], Latents]
"""Re-imposes known values on latents at a level: a clean first frame, the surroundings of an inpainting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Generic[History]):
    """State of a solver between two steps.

    `x` are the latents at the level reached; `x0` is the data prediction x - sigma·v of the step that led
    there, and x itself before any step; `history` is the solver's own. All are float32, or float64 where
    the run began in float64.
    """

    x: Latents
    x0: Latents
    history: History


@runtime_checkable
class Solver(Protocol):
    """Numerical method for dx/dsigma = v(x, sigma): a frozen value that keeps nothing between calls."""

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        """The steps + 1 levels of the method's own grid, the last one CLEAN."""
        ...

    def init(self, x: Latents) -> State[Any]:
        """The state of a run that begins at `x`, at whatever level."""
        ...

    def step(self, state: State[Any], field: Field, levels: tuple[Level, ...], index: int) -> State[Any]:
        """Step from levels[index] to levels[index + 1].

        `index` counts from the head of the list wherever the run began. Levels are never looked up by
        timestep, since truncated timesteps may repeat.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Result of the loop: step `index` is done and `x` has come to `level`, that is levels[index + 1].

    `state` and `field_state` are the states of the solver and of the field.
    """

    index: int
    level: Level
    state: State[Any]
    field_state: Any

    @property
    def x(self) -> Latents:
        return self.state.x

    @property
    def x0(self) -> Latents:
        """The video as predicted in this step: a preview, recognisable long before `x` is."""
        return self.state.x0


def sample(
    solver: Solver,
    field: Field,
    x: Latents,
    levels: tuple[Level, ...],
    *,
    start: int = 0,
    constrain: Constraint | None = None,
    resets: frozenset[int] = frozenset(),
) -> Iterator[Step]:
    """Carry `x` from levels[start] to the last level, yielding after each step; stop asking to cancel.

    `constrain` is applied to `x` and to the result of each step. A stateful field begins with the state None. Before
    each step of `resets` the solver begins anew from `x`, and so does the field: what was known is of another field.
    Raises UsageError at once, before any step, where `start` is no step of the list or sigma does not
    fall strictly.
    """
    _check(levels, start)
    first = x if constrain is None else constrain(x, levels[start])
    return _run(solver, stateful(field), solver.init(first), levels, start, constrain, resets)


def initial_state(x: Latents, history: History) -> State[History]:
    """Return a first state, widened to float32: steps are small differences, which bfloat16 would lose."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return State(x=wide, x0=wide, history=history)


def velocity_at(x: Latents, field: Field, level: Level) -> Velocity:
    """Return v(x, level) in the precision of `x`, whatever the network computes in."""
    return field(x, level).to(x.dtype)


def data_prediction(x: Latents, field: Field, level: Level) -> Latents:
    """Return x0 = x - sigma·v: the video that the network sees behind the noise."""
    return x - level.sigma * velocity_at(x, field, level)


def interval(levels: tuple[Level, ...], index: int) -> tuple[Level, Level]:
    """Return the levels at which step `index` begins and ends. Raises UsageError when the list has no such step."""
    if not 0 <= index < len(levels) - 1:
        raise UsageError(
            f"there is no step {index} in a list of {len(levels) - 1}; the first is step 0", code="value_out_of_range"
        )
    return levels[index], levels[index + 1]


def _check(levels: tuple[Level, ...], start: int) -> None:
    interval(levels, start)
    for index, (level, target) in enumerate(pairwise(levels)):
        if not target.sigma < level.sigma:
            raise UsageError(
                f"sigma must fall at every step, but step {index} goes from {level.sigma} to {target.sigma}; "
                "take fewer steps or a smaller shift",
                code="levels_not_falling",
            )


def _run(
    solver: Solver,
    field: StatefulField,
    state: State[Any],
    levels: tuple[Level, ...],
    start: int,
    constrain: Constraint | None,
    resets: frozenset[int],
) -> Iterator[Step]:
    field_state = None
    for index in range(start, len(levels) - 1):
        if index in resets:
            state, field_state = solver.init(state.x), None
        level, evaluated = levels[index + 1], _WithState(field, field_state)
        state = solver.step(state, evaluated, levels, index)
        if constrain is not None:
            state = replace(state, x=constrain(state.x, level))
        field_state = evaluated.field_state
        yield Step(index=index, level=level, state=state, field_state=field_state)


class _WithState:
    """A stateful field as solvers see it: plain, while its state passes from one evaluation to the next.

    It lives for one step, so that a solver may evaluate as often as it needs and still knows no state.
    """

    def __init__(self, field: StatefulField, field_state: Any) -> None:
        self.field, self.field_state = field, field_state

    def __call__(self, x: Latents, level: Level) -> Velocity:
        velocity, self.field_state = self.field.evaluate(x, level, self.field_state)
        return velocity
