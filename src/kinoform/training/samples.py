"""What an adapter learns from: what a person would hand over, a prompt, and the film that shall come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.ports import FilmSize
from kinoform.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One film, and how it is asked for.

    Where the model that is adapted makes the same film from words alone, these are `told`: its own velocity under them
    is then what is learnt, which holds no chance, and not that of the one film that was drawn.
    Raises UsageError when the film to be made is the film that is handed over: nothing is learned from that but
    to copy, and the loss would look splendid.
    """

    inputs: Inputs
    prompt: str
    film: UInt8[np.ndarray, "f h w 3"] = field(repr=False)
    told: str | None = None

    def __post_init__(self) -> None:
        source = self.inputs.film
        if source is not None and np.array_equal(source.frames, self.film):
            raise UsageError(
                f"the source and the target of {self.prompt!r} are the same film; draw another pair",
                code="sample_unchanged",
            )


@runtime_checkable
class Samples(Protocol):
    """Where samples come from, by value: those of a step are a function of its number and of seeds."""

    def draw(self, step: int, count: int, film: FilmSize) -> list[Sample]: ...
