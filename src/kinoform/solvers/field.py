"""Fields with a state: velocities that remember something of earlier calls."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

from kinoform.types import Latents, Level, Velocity

T = TypeVar("T")


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
