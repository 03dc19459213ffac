"""Wrappers of a velocity: guidance and expert switching, for fields with a memory and without one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import torch

from kinoform.solvers.levels import TIMESTEPS
from kinoform.types import Field, Latents, Level, Velocity

T = TypeVar("T")
Pair: TypeAlias = tuple[Velocity, Velocity]
"""The velocities under the positive and under the negative prompt."""

Scale: TypeAlias = float | Callable[[Level], float]
"""How far guidance goes past the positive velocity; a function of the level makes a guidance interval."""


@dataclass(frozen=True, slots=True)
class Remembering(Generic[T]):
    """A function of a point and a level that remembers, state in and state out.

    `recall` takes `(x, level, memory)`, where None is the memory of a function not called yet, and returns
    its value and the memory for the next call. Called plainly it begins with no memory and drops what it
    learns, which is never wrong, only slower; so a MemoryField is a Field.
    """

    recall: Callable[[Latents, Level, Any], tuple[T, Any]]

    def __call__(self, x: Latents, level: Level) -> T:
        return self.recall(x, level, None)[0]


MemoryField: TypeAlias = Remembering[Velocity]


def remembering(function: Callable[[Latents, Level], T]) -> Remembering[T]:
    """`function` itself where it remembers, otherwise lifted: its memory stays None."""
    if isinstance(function, Remembering):
        return function
    return Remembering(lambda x, level, memory: (function(x, level), None))


def apart(positive: Field, negative: Field) -> Remembering[Pair]:
    """Both velocities by two evaluations, the positive one first, each with its own memory."""
    first, second = remembering(positive), remembering(negative)

    def recall(x: Latents, level: Level, memory: Any) -> tuple[Pair, Any]:
        mine, other = memory or (None, None)
        with_prompt, mine = first.recall(x, level, mine)
        without, other = second.recall(x, level, other)
        return (with_prompt, without), (mine, other)

    return Remembering(recall)


def guided(pair: Callable[[Latents, Level], Pair], scale: Scale, *, positive: Field | None = None) -> MemoryField:
    """v = v_negative + scale·(v_positive - v_negative), in float32 at least.

    Classifier-free guidance, Ho & Salimans 2022. At levels where the scale is exactly 1 the result is the
    positive velocity: from `positive`, evaluated alone with its own memory, or from the pair without it.
    """
    both = remembering(pair)
    single = None if positive is None else remembering(positive)

    def recall(x: Latents, level: Level, memory: Any) -> tuple[Velocity, Any]:
        of_both, of_single = memory or (None, None)
        strength = scale(level) if callable(scale) else scale
        if strength == 1 and single is not None:
            velocity, of_single = single.recall(x, level, of_single)
        else:
            (towards, away), of_both = both.recall(x, level, of_both)
            velocity = towards if strength == 1 else _beyond(away, towards, strength)
        return velocity, (of_both, of_single)

    return Remembering(recall)


def two_experts(high: Field, low: Field, boundary: float) -> MemoryField:
    """`high` at timesteps of at least 1000·boundary, `low` below; each keeps its own memory.

    The *timestep* decides, which is truncated: at boundary 0.875 a sigma of 0.875 may be 874, low noise.
    """
    noisy, clear = remembering(high), remembering(low)

    def recall(x: Latents, level: Level, memory: Any) -> tuple[Velocity, Any]:
        of_noisy, of_clear = memory or (None, None)
        if level.timestep >= TIMESTEPS * boundary:
            velocity, of_noisy = noisy.recall(x, level, of_noisy)
        else:
            velocity, of_clear = clear.recall(x, level, of_clear)
        return velocity, (of_noisy, of_clear)

    return Remembering(recall)


def _beyond(origin: Velocity, towards: Velocity, scale: float) -> Velocity:
    wide = torch.promote_types(origin.dtype, torch.float32)
    return origin.to(wide) + scale * (towards.to(wide) - origin.to(wide))
