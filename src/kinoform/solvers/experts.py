"""Experts: several transformers, each for a range of noise levels, as in Wan 2.2 A14B."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias, TypeGuard, cast

from kinoform.errors import UsageError
from kinoform.numbers import real, settle, whole
from kinoform.solvers.field import StatefulField, stateful
from kinoform.solvers.levels import TIMESTEPS
from kinoform.types import Field, Latents, Level, Velocity

MAX_STEP = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AtStep:
    """Switch to the next expert at a step of the list, counted from 0, whatever its level. Raises UsageError for 0."""

    step: int

    def __post_init__(self) -> None:
        settle(self, step=whole("the step of a boundary", self.step, 1, MAX_STEP))

    def passed(self, level: Level, levels: Sequence[Level]) -> bool:
        return self.step < len(levels) and level.sigma <= levels[self.step].sigma


@dataclass(frozen=True, slots=True, kw_only=True)
class BelowSigma:
    """Switch to the next expert below a sigma in (0, 1), whatever the timestep. Raises UsageError out of range."""

    sigma: float

    def __post_init__(self) -> None:
        settle(self, sigma=real("the sigma of a boundary", self.sigma, 0.0, 1.0))
        _check_inside((self.sigma,))

    def passed(self, level: Level, levels: Sequence[Level]) -> bool:
        return level.sigma < self.sigma


Boundary: TypeAlias = float | AtStep | BelowSigma
"""Place where the next expert takes over: a number is the share of the timesteps below which it does, in (0, 1)."""

ExpertChoice: TypeAlias = Callable[[Level], int]
"""Index of the expert that makes the step which begins at a level."""


def expert_choice(boundaries: Sequence[Boundary], levels: Sequence[Level]) -> ExpertChoice:
    """Return the choice of experts along the levels of a run, by `expert_at`."""
    return partial(expert_at, boundaries=tuple(boundaries), levels=tuple(levels))


def expert_at(level: Level, boundaries: Sequence[Boundary], levels: Sequence[Level] = ()) -> int:
    """Return the index of a level's expert: 0 at timesteps of at least 1000·boundaries[0], one more below each.

    The *timestep* decides, which is truncated: at boundary 0.875 a sigma of 0.875 may be 874, the second expert's; but
    for an `AtStep`, which counts along `levels`, the whole list of the run, and a `BelowSigma`.
    """
    return sum(_passed(level, boundary, levels) for boundary in boundaries)


def _passed(level: Level, boundary: Boundary, levels: Sequence[Level]) -> bool:
    if isinstance(boundary, AtStep | BelowSigma):
        return boundary.passed(level, levels)
    return level.timestep < TIMESTEPS * boundary


def ranges_of(boundaries: Sequence[Boundary]) -> tuple[tuple[float, float], ...]:
    """Return the noise levels of each expert, as those from the first number up to, but without, the second.

    Raises UsageError for boundaries that are no shares of the timesteps.
    """
    shares = [boundary for boundary in boundaries if isinstance(boundary, float)]
    if len(shares) < len(boundaries):
        raise UsageError(
            "the experts of this recipe take turns by steps or sigmas, and their ranges of levels are not known; "
            "give boundaries such as (0.875,)",
            code="boundary_invalid",
        )
    return tuple((low, high) for high, low in pairwise((1.0, *shares, 0.0)))


@dataclass(frozen=True, slots=True)
class Switched(StatefulField):
    """Velocity of the expert of each level; see `switched`."""

    experts: tuple[StatefulField, ...]
    choice: ExpertChoice


def switched(experts: Sequence[Field], choice: ExpertChoice, *, carries: bool = False) -> Switched:
    """Return the field that evaluates the expert of each level; each keeps its own state, or `carries` it to the next.

    `experts` stand in the order of the levels, that of the highest noise first.
    """
    fields = tuple(map(stateful, experts))

    def evaluate(x: Latents, level: Level, state: Any) -> tuple[Velocity, Any]:
        states = state or (None,) * len(fields)
        index = choice(level)
        velocity, own = fields[index].evaluate(x, level, states[index])
        if carries:
            return velocity, (own,) * len(fields)
        return velocity, (*states[:index], own, *states[index + 1 :])

    return Switched(evaluate, fields, choice)


def per_expert(field: Field, wrap: Callable[[Field], Field]) -> StatefulField:
    """Wrap the field of each expert by itself, so that no state is carried from one expert to the next."""
    if isinstance(field, Switched):
        return switched([per_expert(expert, wrap) for expert in field.experts], field.choice)
    return stateful(wrap(field))


def check_boundaries(boundaries: object, steps: int | None = None) -> tuple[Boundary, ...]:
    """Return the boundaries with plain numbers.

    Raises UsageError unless numbers and sigmas fall, all between 0 and 1, and steps rise, below the number of `steps`.
    """
    if not _is_sequence(boundaries):
        raise UsageError(f"boundaries must be a tuple such as (0.875,), not {boundaries!r}", code="wrong_type")
    values = tuple(
        value if isinstance(value, AtStep | BelowSigma) else real("a boundary", value, 0.0, 1.0) for value in boundaries
    )
    _check_inside([value for value in values if isinstance(value, float)])
    _check_inside([value.sigma for value in values if isinstance(value, BelowSigma)])
    turns = [value.step for value in values if isinstance(value, AtStep)]
    if not all(first < second for first, second in pairwise([*turns, steps or MAX_STEP + 1])):
        raise UsageError(
            f"the experts of a model take over at the steps {', '.join(map(str, turns))} of {steps or 'a run'}; each "
            "must come after the one before it, the last before the end",
            code="boundary_invalid",
        )
    return values


def boundaries_as_json(boundaries: Sequence[Boundary]) -> list[float | dict[str, int | float]]:
    """Return boundaries as JSON has them: numbers, {"step": 2} and {"sigma": 0.9}."""
    return [_as_json(boundary) for boundary in boundaries]


def boundary_from_json(value: object) -> Boundary | None:
    """Return a boundary that `boundaries_as_json` wrote; None for other values. Raises UsageError out of range."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    pairs = [*cast("Mapping[object, object]", value).items()] if isinstance(value, Mapping) else []
    name, number = pairs[0] if len(pairs) == 1 else (None, None)
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= MAX_STEP:
        return None
    if name == "step" and isinstance(number, int):
        return AtStep(step=number)
    return BelowSigma(sigma=float(number)) if name == "sigma" else None


def _as_json(boundary: Boundary) -> float | dict[str, int | float]:
    if isinstance(boundary, AtStep):
        return {"step": boundary.step}
    return {"sigma": boundary.sigma} if isinstance(boundary, BelowSigma) else boundary


def _check_inside(values: Sequence[float]) -> None:
    if not all(0 < value < 1 for value in values) or not all(low < high for high, low in pairwise(values)):
        raise UsageError(
            f"boundaries are {str(tuple(values))[:60]}; each must lie between 0 (clean) and 1 (noise), and "
            "below the one before it",
            code="boundary_invalid",
        )


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)
