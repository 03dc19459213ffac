"""How `mini-factorized` is trained: as `mini` was, film by film, with portraits beside some captions."""

from dataclasses import replace

from kinoform.recipes.mini_adapter_plans import reading
from kinoform.recipes.mini_adapters import REFERENCE_ROWS
from kinoform.recipes.mini_factorized import PICTURES, mini_factorized
from kinoform.recipes.mini_training import plan as plan_of_mini
from kinoform.training.plan import TransformerPlan
from kinoform.training.transformer import Portraits

DYED = 0.5
"""Of the objects that only a portrait tells: their colour is none that a word does. No pair of colour and shape stands
for another then, and one that was never shown is read as well as any."""

READER_STEPS = 3600


def plan() -> TransformerPlan:
    """The films, noise, levels, batches and steps of `mini`; some captions leave the object to a portrait."""
    recipe, full = mini_factorized(), plan_of_mini()
    portraits = Portraits(rows=REFERENCE_ROWS, dyed=DYED)
    reader = reading(recipe, PICTURES)
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
