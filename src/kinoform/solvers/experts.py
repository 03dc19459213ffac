"""Experts: several transformers, each for a range of noise levels, as in Wan 2.2 A14B."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

from kinoform.errors import UsageError
from kinoform.numbers import real
from kinoform.solvers.field import StatefulField, stateful
from kinoform.solvers.levels import TIMESTEPS
from kinoform.types import Field, Latents, Level, Velocity


def expert_at(level: Level, boundaries: Sequence[float]) -> int:
    """Return the index of a level's expert: 0 at timesteps of at least 1000·boundaries[0], one more below each.

    The *timestep* decides, which is truncated: at boundary 0.875 a sigma of 0.875 may be 874, the second expert's.
    """
    return sum(level.timestep < TIMESTEPS * boundary for boundary in boundaries)


def ranges_of(boundaries: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return the noise levels of each expert, as those from the first number up to, but without, the second."""
    return tuple((low, high) for high, low in pairwise((1.0, *boundaries, 0.0)))


@dataclass(frozen=True, slots=True)
class Switched(StatefulField):
    """Velocity of the expert of each level; see `switched`."""

    experts: tuple[StatefulField, ...]
    boundaries: tuple[float, ...]


def switched(experts: Sequence[Field], boundaries: Sequence[float]) -> Switched:
    """Return the field that evaluates the expert of each level, by `expert_at`; each keeps its own state.

    `experts` are one more than the `boundaries`, that of the highest noise first.
    """
    fields = tuple(map(stateful, experts))

    def evaluate(x: Latents, level: Level, state: Any) -> tuple[Velocity, Any]:
        states = state or (None,) * len(fields)
        index = expert_at(level, boundaries)
        velocity, own = fields[index].evaluate(x, level, states[index])
        return velocity, (*states[:index], own, *states[index + 1 :])

    return Switched(evaluate, fields, tuple(boundaries))


def per_expert(field: Field, wrap: Callable[[Field], Field]) -> StatefulField:
    """Wrap the field of each expert by itself, so that no state of `wrap` is carried from one expert to the next."""
    if isinstance(field, Switched):
        return switched([per_expert(expert, wrap) for expert in field.experts], field.boundaries)
    return stateful(wrap(field))


def check_boundaries(boundaries: object) -> tuple[float, ...]:
    """Return the boundaries as plain numbers. Raises UsageError unless they fall, all between 0 and 1."""
    if not _is_sequence(boundaries):
        raise UsageError(f"boundaries must be a tuple such as (0.875,), not {boundaries!r}", code="wrong_type")
    values = tuple(real("a boundary", value, 0.0, 1.0) for value in boundaries)
    if not all(0 < value < 1 for value in values) or not all(low < high for high, low in pairwise(values)):
        raise UsageError(
            f"boundaries are {values}; each must lie between 0 (clean) and 1 (noise), and below the one before it",
            code="boundary_invalid",
        )
    return values


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)
