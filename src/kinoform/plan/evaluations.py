"""Evaluations of the transformer for a video, counted by running its sampler on a velocity that costs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from kinoform.plan.workload import Workload
from kinoform.solvers.by_expert import PerExpert, of_expert
from kinoform.solvers.experts import expert_choice, switched
from kinoform.solvers.field import Stateful, StatefulField, stateful
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


def total(counted: Iterable[Evaluations]) -> Evaluations:
    """Return the evaluations of several together."""
    found = [*counted]
    return Evaluations(
        fields=sum(each.fields for each in found),
        negatives=sum(each.negatives for each in found),
        pairs=sum(each.pairs for each in found),
        singles=sum(each.singles for each in found),
    )


def fields_of(workload: Workload) -> int:
    """Velocities that are prepared: that of the prompt, and that of the source prompt where a video is changed."""
    return 2 if workload.sampler.edits else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Evaluations of one transformer for the prompt, and for the source prompt where a video is changed."""

    prompt: Evaluations
    source: Evaluations

    @property
    def together(self) -> Evaluations:
        return total((self.prompt, self.source))


def experts_reached(workload: Workload, strength: float | None) -> set[int]:
    """Return the indices of the transformers in whose range a step begins; the others are never loaded."""
    levels = workload.levels
    return {*map(expert_choice(workload.boundaries, levels), levels[_first(workload, strength) : -1])}


def evaluations(workload: Workload, strength: float | None) -> tuple[Asked, ...]:
    """Count the evaluations of each transformer, exactly for any solver, sampler and guidance.

    The video begins at `strength` from another, None from noise. Raises UsageError where the solver's levels do not
    fall, as denoising itself would.
    """
    experts = range(len(workload.boundaries) + 1)
    prompt, source = ([Counter[str]() for _ in experts] for _ in range(2))
    point = torch.zeros(1, 1, 1, 1, 1)
    levels = workload.levels

    def velocity(counts: list[Counter[str]], scale: PerExpert) -> Field:
        fields = [_counted_field(workload, levels, counts[index], of_expert(scale, index)) for index in experts]
        return switched(fields, expert_choice(workload.boundaries, levels))

    run = Run(
        solver=workload.solver,
        field=velocity(prompt, workload.guidance_scale),
        levels=levels,
        first=_first(workload, strength),
        noise=point,
        draw=partial(torch.zeros_like, point),
        start=point if strength is not None or workload.sampler.edits else None,
        source=partial(velocity, source),
    )
    for _ in workload.sampler.steps(run):
        pass
    return tuple(Asked(prompt=_counted(own), source=_counted(other)) for own, other in zip(prompt, source, strict=True))


def _first(workload: Workload, strength: float | None) -> int:
    return first_step(workload.steps, 1.0 if strength is None else strength)


def _counted_field(workload: Workload, levels: tuple[Level, ...], counts: Counter[str], scale: float) -> StatefulField:
    """A velocity of one expert, which is prepared at its first evaluation."""

    def both(x: Latents, level: Level) -> tuple[Velocity, Velocity]:
        counts["pairs"] += 1
        return torch.zeros_like(x), torch.zeros_like(x)

    def single(x: Latents, level: Level) -> Velocity:
        counts["singles"] += 1
        return torch.zeros_like(x)

    guided = stateful(workload.guidance_rule.guide(both, scale, positive=single, levels=levels))
    prepared = False

    def evaluate(x: Latents, level: Level, state: Any) -> tuple[Velocity, Any]:
        nonlocal prepared
        if not prepared:
            prepared = True
            counts["fields"] += 1
            counts["negatives"] += reads_negative(workload.guidance_rule, scale)
        return guided.evaluate(x, level, state)

    return Stateful(evaluate)


def _counted(counts: Counter[str]) -> Evaluations:
    return Evaluations(
        fields=counts["fields"], negatives=counts["negatives"], pairs=counts["pairs"], singles=counts["singles"]
    )
