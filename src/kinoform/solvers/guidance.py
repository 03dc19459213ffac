"""Rules of guidance: at which levels the negative prompt counts, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.errors import UsageError
from kinoform.numbers import real, settle, whole
from kinoform.solvers.field import Pair, Stateful, StatefulField, guided, stateful
from kinoform.types import Field, Latents, Level, Velocity

PairField = Callable[[Latents, Level], Pair]
MOST_ZERO = 1000


@runtime_checkable
class Guidance(Protocol):
    """Rule by which the velocities under the two prompts become one: a frozen value.

    `guide` wraps the pair at a scale for a run along `levels`, the whole list; `positive` is the first of the
    pair, evaluated alone. Gradients are not recorded, but a rule may ask for them (`torch.enable_grad`). `check` raises
    UsageError for a rule that leaves nothing of so many steps.
    """

    def check(self, steps: int) -> None: ...
    def guide(self, pair: PairField, scale: float, *, positive: Field, levels: tuple[Level, ...]) -> StatefulField: ...


@runtime_checkable
class ReadsNegative(Protocol):
    """Rule that tells whether it asks for the velocity under the negative prompt at a scale, at any level.

    Where it does not, the negative prompt is neither encoded nor prepared, and `pair` must not be called.
    """

    def reads_negative(self, scale: float) -> bool: ...


def reads_negative(rule: Guidance, scale: float) -> bool:
    """Return whether the rule reads the negative prompt at this scale; taken for granted where it does not tell."""
    return not isinstance(rule, ReadsNegative) or rule.reads_negative(scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainGuidance:
    """Guidance at the same scale at every level (Ho & Salimans 2022); see `guided`."""

    def check(self, steps: int) -> None:
        """Any number of steps will do."""

    def reads_negative(self, scale: float) -> bool:
        return scale != 1

    def guide(self, pair: PairField, scale: float, *, positive: Field, levels: tuple[Level, ...]) -> StatefulField:
        return guided(pair, scale, positive=positive)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Guidance where `low` <= sigma <= `high`; elsewhere the positive velocity, by one evaluation.

    Kynkäänniemi et al. 2024. Sigma lies in 0 (clean) to 1 (noise) and is bent by the shift. Raises UsageError
    unless 0 <= low < high <= 1.
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        settle(self, low=real("low", self.low, 0.0, 1.0), high=real("high", self.high, 0.0, 1.0))
        if not self.low < self.high:
            raise UsageError(
                f"guidance from sigma {self.low} to {self.high} is no interval; give low < high, both from 0 to 1",
                code="value_out_of_range",
            )

    def check(self, steps: int) -> None:
        """Any number of steps will do."""

    def reads_negative(self, scale: float) -> bool:
        return scale != 1

    def guide(self, pair: PairField, scale: float, *, positive: Field, levels: tuple[Level, ...]) -> StatefulField:
        return guided(pair, lambda level: scale if self.low <= level.sigma <= self.high else 1.0, positive=positive)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroStar:
    """CFG-Zero* (Fan et al. 2025): v = s v_negative + scale (v_positive - s v_negative), and 0 at the beginning.

    s = <v_positive, v_negative> / |v_negative|^2, of each sample by itself. The velocity is 0, and nothing is
    evaluated, in the first `zero_steps` steps of the list; a video that begins later passes none of them.
    Raises UsageError for a negative number of steps.
    """

    zero_steps: int = 1

    def __post_init__(self) -> None:
        settle(self, zero_steps=whole("zero_steps", self.zero_steps, 0, MOST_ZERO))

    def check(self, steps: int) -> None:
        """Raises UsageError where every step would be zero."""
        if self.zero_steps >= steps:
            raise UsageError(
                f"zero_steps is {self.zero_steps} of {steps} steps; take more steps, or zero fewer",
                code="too_few_steps",
            )

    def reads_negative(self, scale: float) -> bool:
        return scale != 1

    def guide(self, pair: PairField, scale: float, *, positive: Field, levels: tuple[Level, ...]) -> StatefulField:
        field = guided(_projected(pair), scale, positive=positive)
        return _still_above(levels[self.zero_steps].sigma, field)


def projection(positive: Velocity, negative: Velocity) -> Float[Tensor, "b 1 1 1 1"]:
    """s that brings s * negative nearest to positive, sample by sample, in float32 at least; 0 for a negative of 0."""
    wide = torch.promote_types(negative.dtype, torch.float32)
    towards, away = positive.to(wide).flatten(1), negative.to(wide).flatten(1)
    scale = [
        torch.dot(v, u) / torch.dot(u, u).clamp_min(torch.finfo(wide).tiny) for v, u in zip(towards, away, strict=True)
    ]
    return torch.stack(scale).reshape(-1, 1, 1, 1, 1)


def _projected(pair: PairField) -> Stateful[Pair]:
    """The pair with its negative velocity scaled."""
    both = stateful(pair)

    def evaluate(x: Latents, level: Level, state: Any) -> tuple[Pair, Any]:
        (positive, negative), state = both.evaluate(x, level, state)
        return (positive, projection(positive, negative) * negative), state

    return Stateful(evaluate)


def _still_above(sigma: float, field: StatefulField) -> StatefulField:
    """A velocity of 0 at higher levels."""

    def evaluate(x: Latents, level: Level, state: Any) -> tuple[Velocity, Any]:
        return (torch.zeros_like(x), state) if level.sigma > sigma else field.evaluate(x, level, state)

    return Stateful(evaluate)
