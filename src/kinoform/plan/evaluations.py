"""Evaluations of the transformer for a video, counted by running its sampler on a velocity that costs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch

from kinoform.plan.workload import Workload
from kinoform.solvers.experts import expert_choice, switched
from kinoform.solvers.guidance.rule import Scales, text_scale
from kinoform.solvers.predictions import Predict, Prediction
from kinoform.solvers.sampler import Run, SourceGuided, first_step
from kinoform.solvers.scales import ScalesLike, guidance_scales
from kinoform.types import Field, Latents, Level, Velocity

GUIDED = 2.0
"""Scale that stands for one that a sampler does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluations:
    """Evaluations of a transformer: how often the conditions of each prediction are `prepared`, and how often
    predictions are asked for `together`."""

    prepared: Mapping[Prediction, int] = field(default_factory=dict[Prediction, int])
    together: Mapping[tuple[Prediction, ...], int] = field(default_factory=dict[tuple[Prediction, ...], int])

    def __hash__(self) -> int:
        return hash((frozenset(self.prepared.items()), frozenset(self.together.items())))

    @property
    def nfe(self) -> int:
        """Velocities after guidance."""
        return sum(self.together.values())

    @property
    def forwards(self) -> int:
        """Predictions: passes through the transformer."""
        return sum(len(asked) * count for asked, count in self.together.items())

    def of_forwards(self, size: int) -> int:
        """Velocities that are made of so many predictions."""
        return sum(count for asked, count in self.together.items() if len(asked) == size)

    def as_json(self) -> dict[str, object]:
        """Plain values: numbers of prepared conditions, of velocities, of these by their forwards, and of forwards."""
        return {
            "prepared": sum(self.prepared.values()),
            "velocities": self.nfe,
            "by_forwards": {
                str(size): self.of_forwards(size) for size in sorted({len(each) for each in self.together})
            },
            "forwards": self.forwards,
        }


def total(counted: Iterable[Evaluations]) -> Evaluations:
    """Return the evaluations of several together."""
    prepared, together = Counter[Prediction](), Counter[tuple[Prediction, ...]]()
    for item in counted:
        prepared.update(item.prepared)
        together.update(item.together)
    return Evaluations(prepared=prepared, together=together)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Evaluations of one transformer for the prompt, and for the source prompt where a video is changed."""

    prompt: Evaluations = Evaluations()
    source: Evaluations = Evaluations()

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
    prompt, source = ([_Counts(Counter(), Counter()) for _ in experts] for _ in range(2))
    point = torch.zeros(1, 1, 1, 1, 2)  # of which rules may take a deviation
    levels = workload.levels

    def velocity(counts: list[_Counts], guidance: ScalesLike) -> Field:
        scales = guidance_scales(guidance, len(experts))
        fields = [
            workload.guidance_rule.guide(_counting(counts[index]), scales.along(index, levels), levels)
            for index in experts
        ]
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
    return tuple(
        Asked(
            prompt=Evaluations(prepared=own.prepared, together=own.together),
            source=Evaluations(prepared=other.prepared, together=other.together),
        )
        for own, other in zip(prompt, source, strict=True)
    )


def possible(workload: Workload) -> tuple[Asked, ...]:
    """Return what may be asked of each transformer, once and all together, without running the rule of guidance."""
    levels, rule = workload.levels, workload.guidance_rule

    def once(scales: Scales) -> Evaluations:
        asked = rule.predictions(scales, levels)
        return Evaluations(prepared=dict.fromkeys(asked, 1), together={tuple(sorted(asked, key=repr)): 1})

    sampler, source = workload.sampler, Evaluations()
    if sampler.edits:
        source = once(text_scale(sampler.source_guidance if isinstance(sampler, SourceGuided) else GUIDED))
    experts = range(len(workload.boundaries) + 1)
    return tuple(Asked(prompt=once(workload.scales.along(index, levels)), source=source) for index in experts)


def _first(workload: Workload, strength: float | None) -> int:
    return first_step(workload.steps, 1.0 if strength is None else strength)


class _Counts(NamedTuple):
    """Counts of one transformer while a run asks; see `Evaluations`."""

    prepared: Counter[Prediction]
    together: Counter[tuple[Prediction, ...]]


def _counting(counts: _Counts) -> Predict:
    """Predictions of one field that are 0 and counted; their conditions are prepared when it first asks for them."""
    known = set[Prediction]()

    def predict(x: Latents, level: Level, asked: Sequence[Prediction]) -> list[Velocity]:
        counts.together[tuple(asked)] += 1
        counts.prepared.update(set(asked) - known)
        known.update(asked)
        return [torch.zeros_like(x) for _ in asked]

    return predict
