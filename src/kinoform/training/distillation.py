"""Distillation: a student learns the few steps, without guidance, for which its teacher needs many guided ones.

Meng et al. 2023, "On distillation of guided diffusion models", after Salimans and Ho 2022: one step of the student
shall land where several guided steps of the teacher land. The states from which both begin are the student's own
(Kohler et al. 2024, "Imagine Flash", backward distillation), from noise on: no videos are needed, and a step learns to
begin where the one before it has really come to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from kinoform.conditions.protocols import VideoSize
from kinoform.errors import UsageError
from kinoform.files import check_writable
from kinoform.loading.parts import Parts
from kinoform.models.codec import latent_size
from kinoform.models.dit import DiT, keeps_float32
from kinoform.models.lora import LoRASpec, attach, bare
from kinoform.ops.flops import count_flops
from kinoform.ops.patch import grid_of
from kinoform.recipe import Recipe
from kinoform.solvers.base import sample
from kinoform.solvers.predictions import NEGATIVE, POSITIVE, Prediction
from kinoform.solvers.scales import guidance_scales
from kinoform.training.adapter import CPU, TrainedAdapter, check_derived
from kinoform.training.checkpoint import held
from kinoform.training.devices import apart
from kinoform.training.distributed import ProcessGroup, Rank
from kinoform.training.frozen import FrozenParts
from kinoform.training.loop import finished
from kinoform.training.objective import TrainableModel
from kinoform.training.plan import TrainingRun, shared
from kinoform.training.rng import step_generator
from kinoform.training.stage import RunOptions, TrainingSpec
from kinoform.types import CLEAN, Conditions, Latents, Level, Velocity


@runtime_checkable
class Prompts(Protocol):
    """Source of prompts, by value: those of a step are a function of its number and of seeds."""

    def draw(self, step: int, count: int) -> list[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationPlan:
    """Plan of a training of low-rank changes by which the model called `base` makes videos in few steps.

    `recipe` is that of the student, whose steps, solver and shift it is trained for; `teacher` that of the base, whose
    solver, guidance and negative prompt it learns from: `substeps` steps of it for each of the student's. `lora` says
    which layers get low-rank changes. A batch are `batch` videos, from noise to the end. `precision` is that of the
    matrix products. Raises UsageError for a student with additions, and for experts, which are not built.
    """

    name: str
    base: str
    recipe: Recipe
    teacher: Recipe
    lora: LoRASpec
    prompts: Prompts
    training: TrainingSpec
    substeps: int = 4
    batch: int = 8
    seed: int = 5
    precision: torch.dtype = torch.float32

    output_name: ClassVar[str] = "adapter.safetensors"

    def __post_init__(self) -> None:
        if self.recipe.additions is not None or self.recipe.transformers != self.teacher.transformers:
            raise UsageError(
                f"the student {self.recipe.name} must have the one transformer of its teacher {self.teacher.name}, "
                "without additions; derive its recipe so",
                code="recipe_mismatch",
            )
        if not isinstance(self.recipe.shift, float | int):
            raise UsageError(f"the recipe {self.recipe.name} needs one shift for all sizes", code="wrong_type")

    @property
    def run_name(self) -> str:
        return f"{self.base}-{self.name}"

    @property
    def video(self) -> VideoSize:
        return VideoSize(num_frames=self.recipe.num_frames, height=self.recipe.height, width=self.recipe.width)

    def segments(self) -> list[tuple[Level, ...]]:
        """Return the levels of the teacher's steps in each step of the student, first and last included."""
        shift, count = self.recipe.shift, self.substeps
        assert isinstance(shift, float | int)
        levels = self.recipe.solver.levels(self.recipe.steps * count, shift)
        return [levels[first : first + count + 1] for first in range(0, len(levels) - 1, count)]

    def check_output(self, path: Path, *, force: bool) -> None:
        check_writable(path, force=force)

    def train(self, run: TrainingRun) -> TrainedAdapter:
        """See `TrainingPlan`. Raises UsageError when the recipe is not for a model like the base."""
        parts = run.load_parts(self.base)
        check_derived(self.recipe, parts, f"the student {self.name}", self.base)
        with held(run.folder):
            return distil(self, parts, run.folder / "adapter", run.options, processes=run.processes)


def distil(
    plan: DistillationPlan, parts: Parts, folder: Path, options: RunOptions | None = None, *, processes: int = 1
) -> TrainedAdapter:
    """Train below `folder`, or go on there; `parts` are those of the teacher.

    Raises what `train` raises, and UsageError when the batch cannot be shared by the processes.
    """
    frozen = FrozenParts(
        codec=parts.codec(CPU), tokenizer=parts.tokenizer(), text_encoder=parts.text_encoder(torch.float32, CPU)
    )
    Rank(0, processes).slice(plan.batch)  # refused here rather than in every process
    base, base_hash = parts.transformer(plan.precision, CPU), parts.fingerprint()
    model, report = shared(processes, _train, options or RunOptions(), plan, base, frozen, base_hash, folder)
    return TrainedAdapter(
        name=plan.name, base=plan.base, additions=None, base_hash=base_hash, transformers=(model,), report=report
    )


@dataclass(frozen=True, kw_only=True)
class DistillationBatch:
    """Noise from which videos begin, and the text rows of their prompts and of the negative prompt."""

    noise: Latents
    rows: Float[Tensor, "b n r"]
    negative: Float[Tensor, "b n r"]


class DistillationStage:
    """Videos of the student from noise to the end, each step held against the teacher's; see `Stage`.

    The teacher is the student without its changes, whose weights it shares, on whatever device.
    """

    def __init__(
        self, plan: DistillationPlan, base: DiT, frozen: FrozenParts, *, base_hash: str, rank: Rank | None = None
    ) -> None:
        self.config = deciding(plan, base_hash)
        self._plan, self._frozen, self._rank = plan, frozen, rank or Rank()
        attached = attach(base, plan.lora, name=plan.name, generator=torch.Generator().manual_seed(plan.seed))
        model = apart(attached, base)
        assert isinstance(model, DiT)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(f".adapters.{plan.name}." in name)
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        self._model, self._segments = TrainableModel(model), plan.segments()
        self._flops = self._count(self.batch(0))

    def samples(self, step: int) -> int:
        return self._plan.batch

    def modules(self) -> TrainableModel:
        return self._model

    def flops(self, step: int) -> float:
        return self._flops

    @torch.no_grad()
    def batch(self, step: int) -> DistillationBatch:
        plan, mine = self._plan, self._rank.slice(self._plan.batch)
        video, codec = plan.video, plan.recipe.codec
        size = latent_size(codec, video.num_frames, video.height, video.width)
        noise = torch.randn(plan.batch, codec.channels, *size, generator=step_generator(plan.seed, step))[mine]
        negative = self._frozen.rows([plan.teacher.negative_prompt])
        return DistillationBatch(
            noise=noise,
            rows=self._frozen.rows(plan.prompts.draw(step, plan.batch)[mine]),
            negative=negative.expand(len(noise), -1, -1),
        )

    def loss(self, batch: DistillationBatch) -> Float[Tensor, ""]:
        """Return the mean square of the student's velocity less the teacher's mean velocity, over all steps."""
        rounded = {
            name: weight if keeps_float32(name) else weight.to(self._plan.precision)
            for name, weight in self._model.named_parameters()
            if weight.requires_grad
        }
        x, losses, teacher = batch.noise, list[Tensor](), self._teacher(batch)
        for levels in self._segments:
            first, last = levels[0].sigma, levels[-1].sigma
            target = (teacher(x, levels) - x) / (last - first)
            sigma = torch.full((len(x),), first, device=x.device)
            given = (x, sigma, Conditions(context={"text": batch.rows}))
            velocity = functional_call(self._model, rounded, given).float()
            losses.append((velocity - target).square().mean())
            x = x + (last - first) * velocity.detach()
        return torch.stack(losses).mean()

    @torch.no_grad()
    def _teacher(self, batch: DistillationBatch) -> Callable[[Latents, tuple[Level, ...]], Latents]:
        """Return the function from latents to where the teacher comes from there by its steps along some levels."""
        model, of = bare(self._model.model), self._plan.teacher
        grid = grid_of(batch.noise, model.spec.patch)
        rows = {POSITIVE: batch.rows, NEGATIVE: batch.negative}
        prompts = {asked: model.prepare(Conditions(context={"text": text}), grid) for asked, text in rows.items()}

        def predict(x: Latents, level: Level, asked: Sequence[Prediction]) -> list[Velocity]:
            return model.velocities(x, level, [prompts[prediction] for prediction in asked])

        run = (*(level for levels in self._segments for level in levels[:-1]), CLEAN)
        scales = guidance_scales(of.guidance_scale, 1).along(0, run)
        field = of.guidance_rule.guide(predict, scales, run)

        @torch.no_grad()
        def taught(x: Latents, levels: tuple[Level, ...]) -> Latents:
            *_, last = sample(of.solver, field, x, levels)
            return last.x

        return taught

    def _count(self, batch: DistillationBatch) -> float:
        """Count the operations of a step: those of the student three times, those of the teacher once."""
        teacher = self._teacher(batch)
        taught = count_flops(lambda: [teacher(batch.noise, levels) for levels in self._segments])
        return self._rank.world_size * (3 * count_flops(lambda: self.loss(batch)) - 2 * taught)


def deciding(plan: DistillationPlan, base_hash: str) -> dict[str, object]:
    """Return all of a plan that decides the weights, and the hash of the base; no size of the video saved."""
    values = {
        item.name: getattr(plan, item.name)
        for item in fields(plan)
        if item.name not in ("recipe", "teacher", "training")
    }
    guided = ("solver", "guidance_scale", "guidance_rule", "negative_prompt")
    teacher = {name: getattr(plan.teacher, name) for name in guided}
    student = {"transformer": plan.recipe.transformer, "segments": plan.segments(), "video": plan.video}
    return {"base_hash": base_hash, **values, "teacher": teacher, **student}


def _train(
    group: ProcessGroup, options: RunOptions, plan: DistillationPlan, base: DiT, frozen: FrozenParts, base_hash: str,
    folder: Path,
) -> tuple[DiT, dict[str, object]]:  # fmt: skip
    stage = DistillationStage(plan, base, frozen, base_hash=base_hash, rank=group.rank)
    module, report = finished(stage, folder, plan.training, options, group)
    assert isinstance(module, TrainableModel)
    return module.model, report
