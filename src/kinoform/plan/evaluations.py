"""How often a video asks the transformer: counted by running its sampler on a velocity that costs nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial

import torch

from kinoform.plan.workload import Workload
from kinoform.solvers.guidance import reads_negative
from kinoform.solvers.sampler import Run, first_step
from kinoform.types import Field, Latents, Level, Velocity


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluations:
    """`fields` velocities are prepared, `negatives` of them for the negative prompt too; `pairs` are asked under both
    prompts, `singles` under one."""

    fields: int
    negatives: int
    pairs: int
    singles: int

    @property
    def nfe(self) -> int:
        return self.pairs + self.singles


def fields_of(workload: Workload) -> int:
    """Velocities that are prepared: that of the prompt, and that of the source prompt where a video is changed."""
    return 2 if workload.sampler.edits else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Of the prompt, and of the source prompt where a video is changed."""

    prompt: Evaluations
    source: Evaluations

    @property
    def together(self) -> Evaluations:
        return Evaluations(
            fields=self.prompt.fields + self.source.fields,
            negatives=self.prompt.negatives + self.source.negatives,
            pairs=self.prompt.pairs + self.source.pairs,
            singles=self.prompt.singles + self.source.singles,
        )


def evaluations(workload: Workload, strength: float | None) -> Asked:
    """Of a video that begins at `strength` from another, None from noise; exact for any solver, sampler and guidance.

    Raises UsageError where the solver's levels do not fall, as denoising itself would.
    """
    prompt, source = Counter[str](), Counter[str]()
    point = torch.zeros(1, 1, 1, 1, 1)
    levels = workload.solver.levels(workload.steps, workload.shift)

    def velocity(counts: Counter[str], scale: float) -> Field:
        def both(x: Latents, level: Level) -> tuple[Velocity, Velocity]:
            counts["pairs"] += 1
            return torch.zeros_like(x), torch.zeros_like(x)

        def single(x: Latents, level: Level) -> Velocity:
            counts["singles"] += 1
            return torch.zeros_like(x)

        counts["fields"] += 1
        counts["negatives"] += reads_negative(workload.guidance_rule, scale)
        return workload.guidance_rule.guide(both, scale, positive=single, levels=levels)

    run = Run(
        solver=workload.solver,
        field=velocity(prompt, workload.guidance_scale),
        levels=levels,
        first=first_step(workload.steps, 1.0 if strength is None else strength),
        noise=point,
        draw=partial(torch.zeros_like, point),
        start=point if strength is not None or workload.sampler.edits else None,
        source=partial(velocity, source),
    )
    for _ in workload.sampler.steps(run):
        pass
    return Asked(prompt=_counted(prompt), source=_counted(source))


def _counted(counts: Counter[str]) -> Evaluations:
    return Evaluations(
        fields=counts["fields"], negatives=counts["negatives"], pairs=counts["pairs"], singles=counts["singles"]
    )
