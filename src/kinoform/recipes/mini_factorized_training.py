"""How `mini-factorized` is trained: as `mini` was, film by film, with portraits beside some captions."""

from dataclasses import replace

from kinoform.recipes.mini_adapter_plans import reading
from kinoform.recipes.mini_adapters import REFERENCE_ROWS
from kinoform.recipes.mini_factorized import PICTURES, mini_factorized
from kinoform.recipes.mini_training import plan as plan_of_mini
from kinoform.training.plan import TransformerPlan
from kinoform.training.transformer import Portraits


def plan() -> TransformerPlan:
    """The films, noise, levels, batches and steps of `mini`; some of the captions leave the object to a portrait."""
    recipe, full = mini_factorized(), plan_of_mini()
    return TransformerPlan(
        base="mini",
        recipe=recipe,
        words=full.words,
        transformer=replace(full.transformer, transformer=recipe.transformer, portraits=Portraits(rows=REFERENCE_ROWS)),
        transformer_training=full.transformer_training,
        reader=reading(recipe, PICTURES),
    )
