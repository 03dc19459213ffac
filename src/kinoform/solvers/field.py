"""Fields with a state, and guidance: wrappers of a velocity."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

import torch

from kinoform.types import Field, Latents, Level, Velocity

T = TypeVar("T")
Pair: TypeAlias = tuple[Velocity, Velocity]
"""The velocities under the positive and under the negative prompt."""

Scale: TypeAlias = float | Callable[[Level], float]
"""Scale of guidance past the positive velocity; a function of the level makes a guidance interval."""


@dataclass(frozen=True, slots=True)
class Stateful(Generic[T]):
    """Function of latents and a level that keeps a state between calls: the state goes in and comes out.

    `evaluate` takes `(x, level, state)`, where None is the state before the first call, and returns its value and
    the state for the next call. Called plainly it begins without a state and drops the new one, which is never wrong,
    only slower; so a StatefulField is a Field.
    """

    evaluate: Callable[[Latents, Level, Any], tuple[T, Any]]

    def __call__(self, x: Latents, level: Level) -> T:
        return self.evaluate(x, level, None)[0]


StatefulField: TypeAlias = Stateful[Velocity]
"""Velocity field that keeps a state, such as a cache of earlier evaluations; it is a `Field` too."""


def stateful(function: Callable[[Latents, Level], T]) -> Stateful[T]:
    """Return `function` itself where it has a state; otherwise lift it: its state stays None."""
    if isinstance(function, Stateful):
        return cast("Stateful[T]", function)
    return Stateful(lambda x, level, state: (function(x, level), None))


def cfg_pair(positive: Field, negative: Field) -> Stateful[Pair]:
    """Return both velocities by two evaluations, the positive one first, each with its own state."""
    first, second = stateful(positive), stateful(negative)

    def evaluate(x: Latents, level: Level, state: Any) -> tuple[Pair, Any]:
        first_state, second_state = state or (None, None)
        with_prompt, first_state = first.evaluate(x, level, first_state)
        without, second_state = second.evaluate(x, level, second_state)
        return (with_prompt, without), (first_state, second_state)

    return Stateful(evaluate)


def guided(pair: Callable[[Latents, Level], Pair], scale: Scale, *, positive: Field | None = None) -> StatefulField:
    """Return the field v = v_negative + scale·(v_positive - v_negative), in float32 at least.

    Classifier-free guidance, Ho & Salimans 2022. At levels where the scale is exactly 1 the result is the
    positive velocity: from `positive`, evaluated alone with its own state, or from the pair without it.
    """
    both = stateful(pair)
    single = None if positive is None else stateful(positive)

    def evaluate(x: Latents, level: Level, state: Any) -> tuple[Velocity, Any]:
        pair_state, single_state = state or (None, None)
        strength = scale(level) if callable(scale) else scale
        if strength == 1 and single is not None:
            velocity, single_state = single.evaluate(x, level, single_state)
        else:
            (towards, away), pair_state = both.evaluate(x, level, pair_state)
            velocity = towards if strength == 1 else _beyond(away, towards, strength)
        return velocity, (pair_state, single_state)

    return Stateful(evaluate)


def _beyond(origin: Velocity, towards: Velocity, scale: float) -> Velocity:
    wide = torch.promote_types(origin.dtype, torch.float32)
    return origin.to(wide) + scale * (towards.to(wide) - origin.to(wide))
