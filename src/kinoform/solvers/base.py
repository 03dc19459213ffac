"""What a solver is, and the one loop that runs it from noise to a film."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch

from kinoform.errors import UsageError
from kinoform.solvers.field import RememberingField, remembering, widened
from kinoform.types import Field, Latents, Level

History = TypeVar("History")
Keep = Callable[[Latents, Level], Latents]
"""Re-imposes known values on latents at a level: a clean first frame, the surroundings of an inpainting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Generic[History]):
    """All that a solver knows between two steps.

    `x` are the latents at the level reached, in float32 (or float64 if they came so); `x0` is the data
    prediction x - sigma·v of the step that led there, and x itself before any step; `history` is the
    solver's own.
    """

    x: Latents
    x0: Latents
    history: History


@runtime_checkable
class Solver(Protocol):
    """A numerical method for dx/dsigma = v(x, sigma): a frozen value that keeps nothing between calls."""

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        """The steps + 1 levels of the method's own grid, the last one CLEAN."""
        ...

    def init(self, x: Latents) -> State[Any]:
        """The state of a run that begins at `x`, at whatever level."""
        ...

    def step(self, state: State[Any], field: Field, levels: tuple[Level, ...], index: int) -> State[Any]:
        """From levels[index] to levels[index + 1]; `index` counts from the start of the list, always.

        Levels are never looked up by timestep, since truncated timesteps may repeat.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the loop yields: step `index` is done and x has come to `level`, that is levels[index + 1].

    `state` and `memory` are all that `resume` needs to go on from here.
    """

    index: int
    level: Level
    state: State[Any]
    memory: Any

    @property
    def x(self) -> Latents:
        return self.state.x

    @property
    def x0(self) -> Latents:
        """The film as predicted in this step; good for previews long before x is."""
        return self.state.x0


def sample(
    solver: Solver,
    field: Field,
    x: Latents,
    levels: tuple[Level, ...],
    *,
    start: int = 0,
    keep: Keep | None = None,
) -> Iterator[Step]:
    """Carry `x` from levels[start] to the last level, yielding after each step; stop asking to cancel.

    `keep` is applied to `x` and to the result of each step. A field that remembers starts with memory None.
    Raises UsageError, before the first step, when `start` is outside the list or sigma does not fall
    strictly.
    """
    _check(levels, start)
    state = solver.init(x if keep is None else keep(x, levels[start]))
    return _run(solver, remembering(field), levels, Step(index=start - 1, level=levels[start], state=state, memory=None), keep)


def resume(
    solver: Solver, field: Field, step: Step, levels: tuple[Level, ...], *, keep: Keep | None = None
) -> Iterator[Step]:
    """Go on after `step` as if the loop had never stopped; nothing is left to yield after the last one.

    Raises UsageError when `step` lies outside `levels`.
    """
    _check(levels, step.index)
    return _run(solver, remembering(field), levels, step, keep)


def data_prediction(x: Latents, field: Field, level: Level) -> Latents:
    """x0 = x - sigma·v, in the precision of x: the film the network sees behind the noise."""
    return x - level.sigma * field(x, level).to(x.dtype)


def interval(levels: tuple[Level, ...], index: int) -> tuple[Level, Level]:
    """Where step `index` begins and ends. Raises UsageError when the list has no such step."""
    if not 0 <= index < len(levels) - 1:
        raise UsageError(f"step {index} of a list of {len(levels) - 1} steps; count from 0")
    return levels[index], levels[index + 1]


def _run(
    solver: Solver, field: RememberingField, levels: tuple[Level, ...], last: Step, keep: Keep | None
) -> Iterator[Step]:
    for index in range(last.index + 1, len(levels) - 1):
        plain = _Threaded(field, last.memory)
        state, level = solver.step(last.state, plain, levels, index), levels[index + 1]
        if keep is not None:
            state = replace(state, x=keep(state.x, level))
        last = Step(index=index, level=level, state=state, memory=plain.memory)
        yield last
