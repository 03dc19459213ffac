"""Distilled weights and the settings of a request, held against each other: warnings before anything is computed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kinoform.conditions.standard_inputs import MASK, VIDEO
from kinoform.errors import UsageError
from kinoform.families import released_for
from kinoform.families.relatives import Distillation
from kinoform.pipelines.request import Request
from kinoform.recipe import Recipe
from kinoform.solvers.names import name_of

MANY = 16
"""Steps above which weights distilled to few are surely used for what they are not."""

FEWER = 5
"""Share of a model's steps, one in so many, below which it gives blur."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilledFile:
    """Weights or a LoRA, distilled by its name; `experts` are the indices of the transformers that it is on."""

    name: str
    distillation: Distillation
    experts: tuple[int, ...]


def check_few_step(asked: Request, recipe: Recipe, distilled: Sequence[DistilledFile]) -> None:
    """Warn where weights and settings are not of one kind: distilled weights with the settings of others, and others
    with few steps.

    Raises UsageError under a few-step recipe for a sampler that changes videos, and for a video to begin from that not
    one step begins with.
    """
    if recipe.few_step is not None and asked.sampler.edits:
        raise UsageError(
            f"the recipe {recipe.few_step} has steps of its own, and {name_of(asked.sampler)} would take their place; "
            "leave out the source prompt and the sampler, or the recipe",
            code="sampler_of_other_recipe",
        )
    if recipe.few_step is not None and asked.steps == 1 and VIDEO in asked.inputs and MASK not in asked.inputs:
        raise UsageError(
            f"the one step of {recipe.few_step} begins with noise alone, so that nothing of the video would stay; take "
            "more steps, or leave the video out",
            code="video_not_begun_from",
        )
    found = _of_recipe(asked, recipe, distilled) if recipe.few_step else _of_files(asked, recipe, distilled)
    for sentence in found:
        warnings.warn(sentence, stacklevel=4)


def _of_recipe(asked: Request, recipe: Recipe, distilled: Sequence[DistilledFile]) -> Iterator[str]:
    """Yield what does not fit a few-step recipe."""
    fitting = [file for file in distilled if recipe.few_step in file.distillation.recipes]
    others = [file for file in distilled if file.distillation.recipes and file not in fitting]
    if others and not fitting:
        file = others[0]
        yield (
            f"{file.name} is for the recipe {' or '.join(file.distillation.recipes)} by its name, not for "
            f"{recipe.few_step}"
        )
    if not distilled:
        yield (
            f"the recipe {recipe.few_step} is for distilled weights, and by their names neither the weights nor a LoRA "
            "are; others give blur in so few steps: give the LoRA with --lora, or the distilled weights as --model"
        )
    every = range(len(recipe.transformers))
    if _guided(asked, every):
        yield f"the recipe {recipe.few_step} is made without guidance, and colours burn with it; leave --guidance out"
    if asked.shift != recipe.shift or asked.level_grid != recipe.level_grid:
        yield f"the recipe {recipe.few_step} is made for its own levels; leave out --shift {asked.shift:g}"


def _of_files(asked: Request, recipe: Recipe, distilled: Sequence[DistilledFile]) -> Iterator[str]:
    """Yield what does not fit distilled weights, or weights that are not."""
    for file in distilled:
        many, guided = asked.steps > MANY, _guided(asked, file.experts)
        if many or guided:
            kind, settings = file.distillation, [f"{asked.steps} steps"] * many + ["guidance"] * guided
            yield (
                f"{file.name} is distilled by its name ({kind.name}) for {kind.steps} steps without guidance, and this "
                f"video is made with {' and '.join(settings)}, which burns the colours; {kind.advice}"
            )
    if recipe.steps == recipe.fast_steps and recipe.guidance_scale == 1:  # a student, distilled to these
        more, guided = asked.steps > recipe.steps, _guided(asked, range(len(recipe.transformers)))
        if more or guided:
            settings = [f"{asked.steps} steps"] * more + ["guidance"] * guided
            yield (
                f"{recipe.name} was distilled for {recipe.steps} steps without guidance, and this video is made with "
                f"{' and '.join(settings)}; leave that out"
            )
    if not distilled and FEWER * asked.steps < recipe.steps and released_for(recipe.name) is not None:
        yield (
            f"{asked.steps} steps of {recipe.name}, which takes {recipe.steps}, give blur without distilled weights; "
            "take more steps, or a LoRA for few and its --recipe (docs/few_step.md)"
        )


def _guided(asked: Request, experts: Sequence[int]) -> bool:
    """Return whether one of these experts has guidance at every step; a schedule is somebody's intention."""
    scales = (scale for index in experts for scale in asked.scales.of_expert(index).values())
    return any(isinstance(scale, float) and scale != 1 for scale in scales)
