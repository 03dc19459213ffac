"""Predictions: the velocities of one model that guidance may ask for, each under its own conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from kinoform.ops.layer_changes import LayerChange, NegativeAttention
from kinoform.solvers.field import stateful
from kinoform.types import Field, Latents, Level, Velocity

VIDEO, MORE_VIDEOS, IMAGES = "video", "videos", "images"
"""Groups of in-context segments: the first video, all further ones, and images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Velocity of the model under a choice of its conditions; a key, so equal ones are evaluated once.

    With `prompt` it is that of the prompt, without it that of the negative prompt, and what belongs to the prompt is
    left out. `without` names groups of in-context segments that are left out. With a `change` some layers of the
    transformer are changed, and other predictions do not share the work before them.
    """

    prompt: bool = True
    without: frozenset[str] = frozenset()
    change: LayerChange | None = None

    @property
    def reads_negative(self) -> bool:
        """Return whether it needs the rows of the negative prompt."""
        return not self.prompt or isinstance(self.change, NegativeAttention)


POSITIVE, NEGATIVE = Prediction(), Prediction(prompt=False)
"""The velocities under the prompt and under the negative prompt, with everything that is given."""

Predict: TypeAlias = Callable[[Latents, Level, Sequence[Prediction]], list[Velocity]]
"""Evaluates exactly the predictions that are asked for, in their order."""


@dataclass(frozen=True, slots=True)
class StatefulPredict:
    """Predictions that keep a state between calls, as `Stateful` does; called plainly they begin without one."""

    evaluate: Callable[[Latents, Level, Sequence[Prediction], Any], tuple[list[Velocity], Any]]

    def __call__(self, x: Latents, level: Level, asked: Sequence[Prediction]) -> list[Velocity]:
        return self.evaluate(x, level, asked, None)[0]


def stateful_predict(predict: Predict) -> StatefulPredict:
    """Return `predict` itself where it has a state; otherwise lift it: its state stays None."""
    if isinstance(predict, StatefulPredict):
        return predict
    return StatefulPredict(lambda x, level, asked, state: (predict(x, level, asked), None))


def predict_by(fields: Mapping[Prediction, Field]) -> StatefulPredict:
    """Return the predictions of these fields, evaluated one after the other, each with its own state."""
    known = {prediction: stateful(field) for prediction, field in fields.items()}

    def evaluate(
        x: Latents, level: Level, asked: Sequence[Prediction], state: Mapping[Prediction, Any] | None
    ) -> tuple[list[Velocity], Mapping[Prediction, Any]]:
        states, velocities = dict(state or {}), list[Velocity]()
        for prediction in asked:
            velocity, states[prediction] = known[prediction].evaluate(x, level, states.get(prediction))
            velocities.append(velocity)
        return velocities, states

    return StatefulPredict(evaluate)
