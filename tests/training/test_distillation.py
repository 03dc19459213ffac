"""Distillation: one step of the student is held against several guided ones of its teacher, from its own states."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kinoform.loading.additions import Additions
from kinoform.loading.parts import Parts
from kinoform.models.lora import LoRASpec, adapters_of
from kinoform.ops.patch import grid_of
from kinoform.recipe import Recipe
from kinoform.solvers.base import sample
from kinoform.solvers.euler import Euler
from kinoform.training.adapter import CPU
from kinoform.training.distillation import DistillationPlan, DistillationStage, distil
from kinoform.training.distributed import Rank
from kinoform.training.ema import EMASpec
from kinoform.training.frozen import FrozenParts
from kinoform.training.optimizer import OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import RunOptions, TrainingSpec
from kinoform.types import Conditions, Level
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny, tiny_pipeline, write_tiny_folder

QUIET = RunOptions(show_progress=False)


@dataclass(frozen=True)
class Words:
    """The same two prompts, over and over."""

    def draw(self, step: int, count: int) -> list[str]:
        return [("a red ball", "a blue cat")[index % 2] for index in range(count)]


def student() -> Recipe:
    return replace(tiny(), name="tiny:fast", solver=Euler(exact_timesteps=True), steps=2, guidance_scale=1.0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return tiny_pipeline(write_tiny_folder(tmp_path_factory.mktemp("tiny"))).parts


def plan(steps: int = 3, **changes: object) -> DistillationPlan:
    made = DistillationPlan(
        name="fast",
        base="tiny",
        recipe=student(),
        teacher=tiny(),
        lora=LoRASpec(rank=2),
        prompts=Words(),
        training=TrainingSpec(
            schedule=Schedule(warmup=0, total=steps),
            optimizer=OptimizerSpec(hidden=no_matrix),
            ema=EMASpec(decay=0.5, every=1),
        ),
        substeps=2,
        batch=2,
    )
    return replace(made, **changes)


def stage(of: DistillationPlan, parts: Parts, rank: Rank | None = None) -> DistillationStage:
    frozen = FrozenParts(
        codec=parts.codec(CPU), tokenizer=parts.tokenizer(), text_encoder=parts.text_encoder(torch.float32, CPU)
    )
    return DistillationStage(of, parts.transformer(torch.float32, CPU), frozen, base_hash="tiny", rank=rank)


def loss(of: DistillationPlan, parts: Parts, rank: Rank | None = None) -> float:
    made = stage(of, parts, rank)
    return float(made.loss(made.batch(0)).detach())


def test_there_is_nothing_to_learn_from_a_teacher_that_makes_the_same_steps(parts: Parts) -> None:
    same = replace(student(), name="tiny")
    assert loss(plan(teacher=same, substeps=1), parts) < 1e-12
    assert loss(plan(teacher=same, substeps=2), parts) > 1e-6


def test_the_loss_is_that_of_a_loop_by_hand(parts: Parts) -> None:
    of, model = plan(), parts.transformer(torch.float32, CPU)
    made = stage(of, parts)
    batch, levels = made.batch(0), student().solver.levels(4, 3.0)
    assert levels[::2] == student().solver.levels(2, 3.0)
    grid = grid_of(batch.noise, model.spec.patch)
    prompts = [model.prepare(Conditions(context={"text": rows}), grid) for rows in (batch.rows, batch.negative)]

    def alone(x: Tensor, level: Level) -> Tensor:
        return model.velocities(x, level, prompts)[0]

    def guided(x: Tensor, level: Level) -> Tensor:
        towards, away = model.velocities(x, level, prompts)
        return away + 4 * (towards - away)

    x, errors = batch.noise, list[Tensor]()
    with torch.no_grad():
        for first in (0, 2):
            part = levels[first : first + 3]
            *_, taught = sample(tiny().solver, guided, x, part)
            *_, own = sample(Euler(exact_timesteps=True), alone, x, (part[0], part[2]))
            errors.append(((taught.x - own.x) / (part[2].sigma - part[0].sigma)).square().mean())
            x = own.x
    assert float(made.loss(batch).detach()) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-4)


def test_processes_share_a_batch(parts: Parts) -> None:
    halves = [loss(plan(), parts, Rank(index, 2)) for index in range(2)]
    assert sum(halves) / 2 == pytest.approx(loss(plan(), parts), rel=1e-4)


def test_a_distillation_goes_on_where_it_was_stopped(parts: Parts, tmp_path: Path) -> None:
    whole = distil(plan(), parts, tmp_path / "whole", QUIET)
    distil(plan(), parts, tmp_path / "parts", replace(QUIET, seconds=1e-9, save_every=1))
    rest = distil(plan(), parts, tmp_path / "parts", QUIET)
    assert rest.report["steps"] == whole.report["steps"] == 3
    pairs = zip(whole.transformer.parameters(), rest.transformer.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    changes = adapters_of(whole.transformer)["fast"].values()
    assert all(float(change.up.detach().abs().max()) > 0 for change in changes)


def test_a_student_with_additions_is_refused() -> None:
    with refused("recipe_mismatch"):
        plan(recipe=replace(student(), additions=Additions()))
