"""The model that learns from people's clips: a finished one, or one that `--recipe` adds an input to."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kinoform.cli.model_options import ModelOptions
from kinoform.cli.values import recipe_named
from kinoform.errors import UsageError

if TYPE_CHECKING:
    from kinoform.conditions.protocols import VideoSize
    from kinoform.datasets.item import Dataset
    from kinoform.models.lora import LoRASpec
    from kinoform.pipelines.pipeline import Pipeline
    from kinoform.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtModel:
    """Recipe of what learns, and `base`, the name of the model under it.

    `address` is where the recipe is, for an adapter file to name, None where a LoRA alone learns. `needs`, `known` and
    `lora` are as in `NewInput`.
    """

    recipe: Recipe
    base: str
    address: str | None = None
    needs: tuple[str, ...] = ()
    known: tuple[int, ...] = ()
    lora: bool = True

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError for inputs that the model has not, and for items without those that it needs."""
        from kinoform.conditions.protocols import EncoderSpecs, Units, VideoSize, declared
        from kinoform.datasets.item import some
        from kinoform.datasets.needed import check_needed, prefix_frames
        from kinoform.training.tuning_stage import MAX_PREFIX

        recipe, conditioners = self.recipe, self.recipe.conditioners
        dataset.check_inputs(frozenset(declared(conditioners)), recipe.name)
        size = VideoSize(num_frames=recipe.num_frames, height=recipe.height, width=recipe.width)
        check_needed(dataset, conditioners, size, roles=self.needs, known=self.frames(size))
        units = Units(stride=recipe.codec.stride, patch=recipe.transformers[0].patch)
        encoders = EncoderSpecs(codec=recipe.codec, image=recipe.image)
        many = [
            item.name
            for item in dataset.items
            if len(item.references) > MAX_PREFIX
            and prefix_frames(item, conditioners, size, units, encoders) > MAX_PREFIX
        ]
        if many:
            raise UsageError(
                f"{len(many)} items of {dataset.path} have more than {MAX_PREFIX} references: {some(many)}; a training "
                f"of {recipe.name} reads no more",
                code="too_many",
            )

    def frames(self, video: VideoSize) -> tuple[int, ...]:
        """Return the frames of each clip that the model is given as images, where its item has none of its own."""
        from kinoform.datasets.read import needed_frames

        return self.known or needed_frames(self.recipe.conditioners, video)

    def changes(self, asked: LoRASpec) -> LoRASpec | None:
        """Return the low-rank changes that learn: those that are asked for, of layers that are not added."""
        if not self.lora:
            return None
        besides = () if self.recipe.additions is None else self.recipe.additions.besides
        return replace(asked, patterns=(*asked.patterns, *besides))


def taught_model(pipeline: Pipeline, named: ModelOptions) -> TaughtModel:
    """Return what learns on a loaded model: what its recipe adds and its weights do not hold, and a LoRA."""
    recipe, parts = pipeline.recipe, pipeline.parts
    if parts.base is None:  # whatever was added is in the weights
        return TaughtModel(
            recipe=replace(recipe, additions=None, transformers=parts.transformer_specs), base=str(named.model)
        )
    return _adding(recipe, named, parts.model)


def planned_model(recipe: Recipe, named: ModelOptions) -> TaughtModel:
    """Return what would learn on a model of which nothing need be there; one without `--recipe` holds its additions."""
    from kinoform.loading.additions import Additions

    if recipe.additions is None or named.recipe is None:
        add = (recipe.additions or Additions()).to
        held = replace(recipe, additions=None, transformers=tuple(map(add, recipe.transformers)))
        return TaughtModel(recipe=held, base=str(named.model))
    return _adding(recipe, named, "")


def _adding(recipe: Recipe, named: ModelOptions, released: str) -> TaughtModel:
    from kinoform.recipes.catalogue import EMBEDDED, RELEASED
    from kinoform.recipes.named import recipe_at
    from kinoform.recipes.new_inputs import NEW_INPUTS, NewInput

    address, model = recipe_named(named.recipe), str(named.model)
    assert address is not None, "weights alone have no additions that they do not hold"
    made, base = recipe_at(address), model if model in {*EMBEDDED, *RELEASED} else released or recipe.name
    taught = TaughtModel(recipe=recipe, base=re.sub(r"[^\w.:-]", "-", base), address=NEW_INPUTS.get(address, address))
    if isinstance(made, NewInput):
        return replace(taught, needs=made.needs, known=made.known, lora=made.lora)
    return taught
