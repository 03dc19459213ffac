"""Step caches: reuse the last velocity at steps where a rule says that it has hardly changed."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from kinoform.numbers import real, settle, whole
from kinoform.solvers.experts import per_expert
from kinoform.solvers.field import Stateful, StatefulField, stateful
from kinoform.types import Field, Latents, Level, Velocity

MAX_PERIOD, MAX_LIMIT = 1000, 1000.0


class VelocityEvaluation(NamedTuple):
    """The last true evaluation of a cached field.

    `rate` is the mean change of the velocity per mean change of x between the last two evaluations, None
    after the first; `reuses` counts the calls answered from it since; `inner` is the state of `field`.
    """

    x: Latents
    velocity: Velocity
    rate: float | None
    reuses: int
    inner: Any


@runtime_checkable
class Rule(Protocol):
    """Rule for when the last velocity is still good: a frozen value."""

    def reuse(self, x: Latents, level: Level, last: VelocityEvaluation) -> bool: ...

    @property
    def needs_rate(self) -> bool:
        """Return whether to measure `VelocityEvaluation.rate`, which waits for the device once per evaluation."""
        ...


def cached(field: Field, rule: Rule) -> StatefulField:
    """Evaluate `field` only where `rule` does not call for the velocity of the last evaluation again.

    Each expert of a `switched` field has a cache of its own: none begins with a velocity of another.
    """
    return per_expert(field, lambda expert: _cached(stateful(expert), rule))


def _cached(inner: StatefulField, rule: Rule) -> StatefulField:

    def evaluate(x: Latents, level: Level, last: VelocityEvaluation | None) -> tuple[Velocity, VelocityEvaluation]:
        if last is not None and rule.reuse(x, level, last):
            return last.velocity, last._replace(reuses=last.reuses + 1)
        velocity, inside = inner.evaluate(x, level, None if last is None else last.inner)
        rate = _rate(x, velocity, last) if last is not None and rule.needs_rate else None
        return velocity, VelocityEvaluation(x=x, velocity=velocity, rate=rate, reuses=0, inner=inside)

    return Stateful(evaluate)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedIntervalCache:
    """Evaluate every `period`-th call where `lowest` <= sigma <= `highest`, and every call outside.

    1 evaluates at every step. Raises UsageError for a period that is not 1 to MAX_PERIOD.
    """

    period: int = 2
    lowest: float = 0.0
    highest: float = 1.0

    def __post_init__(self) -> None:
        settle(self, period=whole("period", self.period, 1, MAX_PERIOD))

    @property
    def needs_rate(self) -> bool:
        return False

    def reuse(self, x: Latents, level: Level, last: VelocityEvaluation) -> bool:
        return self.lowest <= level.sigma <= self.highest and last.reuses + 1 < self.period


@dataclass(frozen=True, slots=True, kw_only=True)
class EasyCache:
    """Reuse while the velocity is expected to have changed by no more than `limit` of its mean size.

    Expected is rate·mean|x - x_last| / mean|v_last|, with the rate of the last two evaluations, after
    EasyCache (Zhou et al. 2025). Waits for the device once per call. Calls outside `lowest` <= sigma <=
    `highest` are evaluated; limit 0 reuses nothing. Raises UsageError for a limit that is not 0 to MAX_LIMIT.
    """

    limit: float
    lowest: float = 0.0
    highest: float = 1.0

    def __post_init__(self) -> None:
        settle(self, limit=real("limit", self.limit, 0.0, MAX_LIMIT))

    @property
    def needs_rate(self) -> bool:
        return True

    def reuse(self, x: Latents, level: Level, last: VelocityEvaluation) -> bool:
        if last.rate is None or not self.lowest <= level.sigma <= self.highest:
            return False
        moved = (x - last.x).abs().mean() / last.velocity.float().abs().mean()
        return last.rate * moved.item() < self.limit


def _rate(x: Latents, velocity: Velocity, last: VelocityEvaluation) -> float | None:
    moved = (x - last.x).abs().mean().item()
    return (velocity.float() - last.velocity.float()).abs().mean().item() / moved if moved > 0 else last.rate
