"""Rules of guidance: how several predictions of a model become one velocity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from kinoform.solvers.field import Stateful, StatefulField
from kinoform.solvers.predictions import Predict, Prediction, stateful_predict
from kinoform.types import Latents, Level, Velocity

Scales: TypeAlias = Mapping[str, Callable[[Level], float]]
"""The scale of each condition (`text`, `images`, `video`) at a level; one that is not there is 1, no guidance."""


@runtime_checkable
class CarriesState(Protocol):
    """Rule that tells whether its state goes on from one expert to the next; of others each expert begins anew."""

    @property
    def carries_state(self) -> bool: ...


@runtime_checkable
class Guidance(Protocol):
    """Rule by which predictions become one velocity: a frozen value.

    `guide` makes the field of a run along `levels`, the whole list, from `predict`, which evaluates what it is asked
    for. Gradients are not recorded, but a rule may ask for them (`torch.enable_grad`). `predictions` are all that it
    may ask for at these levels: the negative prompt is encoded if one of them reads it. `check` raises UsageError for
    a rule that leaves nothing of so many steps.
    """

    def check(self, steps: int) -> None: ...
    def predictions(self, scales: Scales, levels: tuple[Level, ...]) -> frozenset[Prediction]: ...
    def guide(self, predict: Predict, scales: Scales, levels: tuple[Level, ...]) -> StatefulField: ...


def text_scale(number: float) -> Scales:
    """Return the same scale of the text at every level."""
    return {"text": lambda level: number}


def reads_negative(rule: Guidance, scales: Scales, levels: tuple[Level, ...]) -> bool:
    """Return whether the rule asks for a velocity that reads the negative prompt."""
    return any(prediction.reads_negative for prediction in rule.predictions(scales, levels))


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceStep:
    """Level of a run, the index of its step among so many `steps`, and the scales of the conditions there."""

    level: Level
    index: int
    steps: int
    scales: Mapping[str, float]

    def scale(self, condition: str = "text") -> float:
        """Return the scale of a condition; 1 where it has none."""
        return self.scales.get(condition, 1.0)


@dataclass(frozen=True, slots=True)
class Combination:
    """Predictions that are asked for in a step, that with the most conditions first, and how they are combined.

    `combine` takes `(x, velocities, state)`, where the state is None at first, and returns a velocity and a state.
    """

    asked: tuple[Prediction, ...]
    combine: Callable[[Latents, Mapping[Prediction, Velocity], Any], tuple[Velocity, Any]]


class CombiningRule(ABC):
    """Guidance that says for each level what it asks for and how it combines that.

    `takes_base` says whether it begins from the velocity under the negative prompt, which others may then change;
    `takes_rules`, whether other rules may stand around it at all.
    """

    __slots__ = ()
    takes_base: ClassVar[bool] = True
    takes_rules: ClassVar[bool] = True

    @property
    def carries_state(self) -> bool:
        """Return whether its state goes on from one expert to the next, instead of beginning anew."""
        return False

    @abstractmethod
    def at(self, step: GuidanceStep) -> Combination:
        """Return what is asked for in a step; it depends on nothing else."""

    def check(self, steps: int) -> None:  # noqa: B027
        """Any number of steps will do."""

    def predictions(self, scales: Scales, levels: tuple[Level, ...]) -> frozenset[Prediction]:
        asked = (self.at(_step_of(level, levels, scales)).asked for level in levels[:-1])
        return frozenset(prediction for predictions in asked for prediction in predictions)

    def guide(self, predict: Predict, scales: Scales, levels: tuple[Level, ...]) -> StatefulField:
        """Make the field of a run, whose state is that of `predict` and that of the rule."""
        predicting = stateful_predict(predict)

        def evaluate(x: Latents, level: Level, state: Any) -> tuple[Velocity, Any]:
            inner, own = state or (None, None)
            combination = self.at(_step_of(level, levels, scales))
            velocities: list[Velocity] = []
            if combination.asked:
                velocities, inner = predicting.evaluate(x, level, combination.asked, inner)
            velocity, own = combination.combine(x, dict(zip(combination.asked, velocities, strict=True)), own)
            return velocity, (inner, own)

        return Stateful(evaluate)


def _step_of(level: Level, levels: tuple[Level, ...], scales: Scales) -> GuidanceStep:
    """A level between two of the list belongs to the step that begins above it."""
    index = max(0, sum(each.sigma >= level.sigma for each in levels) - 1)
    numbers = {name: scale(level) for name, scale in scales.items()}
    return GuidanceStep(level=level, index=index, steps=len(levels) - 1, scales=numbers)
