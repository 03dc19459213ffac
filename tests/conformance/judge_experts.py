"""Two experts that make one video, by the functions of generation: `request`, `Experts` and `denoise`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput
from kinoform.models.dit import DiT
from kinoform.pipelines.experts import Experts
from kinoform.pipelines.generate import denoise, silent
from kinoform.pipelines.request import request
from kinoform.recipe import Recipe
from kinoform.solvers.base import Step
from kinoform.solvers.experts import expert_at
from kinoform.solvers.field import Stateful, StatefulField
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Scales
from kinoform.solvers.levels import TIMESTEPS
from kinoform.solvers.predictions import NEGATIVE, POSITIVE, Predict, Prediction
from kinoform.solvers.sampler import Denoise, Run
from kinoform.types import Latents, Level
from tests.conformance.golden import Golden
from tests.conformance.judge_dit import model_of
from tests.conformance.judge_sampling import SOLVERS

EXPERTS = ("high", "low")


class Noted:
    """Tensors of each step, by the file's names, and the expert that was loaded last."""

    def __init__(self) -> None:
        self.expert, self.tensors = -1, dict[str, list[Tensor]]()

    def note(self, **tensors: Tensor) -> None:
        for name, value in tensors.items():
            self.tensors.setdefault(name, []).append(value)

    def loading(self, index: int, model: DiT) -> Callable[[], DiT]:
        def load() -> DiT:
            self.expert = index
            return model

        return load


@dataclass(frozen=True, slots=True, kw_only=True)
class NotingGuidance(PlainGuidance):
    """Plain guidance that notes what it is given and what it makes of it."""

    noted: Noted

    def guide(self, predict: Predict, scales: Scales, levels: tuple[Level, ...]) -> StatefulField:
        def noting(x: Latents, level: Level, asked: Sequence[Prediction]) -> list[Tensor]:
            velocities = predict(x, level, asked)
            by_prediction = dict(zip(asked, velocities, strict=True))
            self.noted.note(v_cond=by_prediction[POSITIVE][0], v_uncond=by_prediction[NEGATIVE][0])
            return velocities

        made = PlainGuidance.guide(self, noting, scales, levels)

        def evaluate(x: Latents, level: Level, state: Any) -> tuple[Tensor, Any]:
            velocity, state = made.evaluate(x, level, state)
            scale = scales["text"](level)
            high = torch.tensor(int(self.noted.expert == 0))
            timestep = torch.tensor(int(level.timestep))
            self.noted.note(v=velocity[0], guide=torch.tensor(scale), expert=high, timesteps=timestep)
            return velocity, state

        return Stateful(evaluate)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotingSampler(Denoise):
    """Sampling by the solver alone that notes the latents after each step."""

    noted: Noted

    def steps(self, run: Run) -> Iterator[Step]:
        for step in Denoise.steps(self, run):
            self.noted.note(x=step.x[0])
            yield step


@torch.inference_mode()
def judge(golden: Golden) -> dict[str, Tensor]:
    """Values of every step of each solver, and the table of high steps."""
    models = [model_of(replace(golden, weights=weights_of(golden, expert))) for expert in EXPERTS]
    recipe, inputs = _recipe(golden, models), golden.inputs
    rows = (inputs["context"][None], inputs["context_null"][None])
    given = ConditionerOutput(channels=inputs["y"][None] if "y" in inputs else None)
    found = {"out.table.high": torch.tensor([_high_steps(*row) for row in inputs["table"].tolist()])}
    for name, solver in SOLVERS.items():
        noted = Noted()
        asked = request(
            recipe, "a cat", seed=0, solver=solver,
            sampler=NotingSampler(noted=noted), guidance_rule=NotingGuidance(noted=noted),
        )  # fmt: skip
        experts = Experts([noted.loading(i, model) for i, model in enumerate(models)], torch.device("cpu"))
        denoise(experts, asked, rows, lambda: inputs["noise"][None], silent, given)
        for key, values in noted.tensors.items():
            found[f"{'mid' if key.startswith('v_') else 'out'}.{name}.{key}"] = torch.stack(values)
    return {key: value for key, value in found.items() if key in golden.outputs or key.startswith("out.")}


def weights_of(golden: Golden, expert: str) -> dict[str, Tensor]:
    start = f"{expert}."
    return {key.removeprefix(start): value for key, value in golden.weights.items() if key.startswith(start)}


def _recipe(golden: Golden, models: list[DiT]) -> Recipe:
    """A recipe of the file's numbers; the file's guidance is that of low, then of high."""
    c = golden.config
    (width, height), (low, high) = c["size_wh"], c["guide_low_high"]
    return Recipe(
        name=golden.name, transformers=tuple(model.spec for model in models), boundaries=(c["boundary"],),
        width=width, height=height, num_frames=c["frames"], steps=c["steps"], shift=float(c["shift"]),
        guidance_scale={"high": float(high), "low": float(low)},
    )  # fmt: skip


def _high_steps(solver: int, steps: int, shift: int, boundary: int) -> int:
    """Steps that the high expert makes, of a row of the table; the boundary is a timestep."""
    levels = list(SOLVERS.values())[solver].levels(steps, float(shift))
    return sum(expert_at(level, (boundary / TIMESTEPS,)) == 0 for level in levels[:-1])


JUDGES = {"sampling22_t2v": judge, "sampling22_i2v": judge}
