"""How `mini-factorized` is trained: as `mini` was, video by video, with portraits beside some captions."""

from dataclasses import replace

from kinoform.mini.adapter_plans import reading
from kinoform.mini.adapters import REFERENCE_ROWS
from kinoform.mini.factorized_recipe import IMAGES, mini_factorized
from kinoform.mini.plans import plan as plan_of_mini
from kinoform.mini.training.plan import TransformerPlan
from kinoform.mini.training.transformer_stage import Portraits

DYED = 0.5
"""Of the objects that only a portrait tells: their colour is none that a word does. No pair of colour and shape stands
for another then, and one that was never shown is read as well as any."""

READER_STEPS = 3600


def plan() -> TransformerPlan:
    """The videos, noise, levels, batches and steps of `mini`; some captions leave the object to a portrait."""
    recipe, full = mini_factorized(), plan_of_mini()
    portraits = Portraits(rows=REFERENCE_ROWS, dyed=DYED)
    reader = reading(recipe, IMAGES)
    return TransformerPlan(
        base="mini",
        recipe=recipe,
        words=full.words,
        transformer=replace(full.transformer, transformer=recipe.transformer, portraits=portraits),
        transformer_training=full.transformer_training,
        reader=replace(
            reader,
            config=replace(reader.config, dyed=DYED),
            training=replace(reader.training, schedule=replace(reader.training.schedule, total=READER_STEPS)),
            stays=True,
        ),
    )
