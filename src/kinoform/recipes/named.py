"""Recipes and changes of recipes by what `--recipe` says: a name, or module:function."""

from __future__ import annotations

from typing import TypeAlias

from kinoform.errors import UsageError, nearest
from kinoform.recipe import Recipe, returned
from kinoform.recipes.few_step import FEW_STEP, FewStep
from kinoform.recipes.new_inputs import NEW_INPUTS, NewInput

RecipeChange: TypeAlias = FewStep | NewInput
"""Change of the recipe that a model has."""


def recipe_at(address: str) -> Recipe | RecipeChange:
    """Return the few-step recipe or the new input of a name, or what `module:function` returns.

    Raises UsageError for another name, and as `returned` does; for a function that returns none of these.
    """
    if not isinstance(address, str):
        raise UsageError(
            f"the recipe must be a name or module:function, as text, not {str(address)[:60]}", code="wrong_type"
        )
    if address in FEW_STEP:
        return FEW_STEP[address]
    if ":" not in address and address not in NEW_INPUTS:
        raise UsageError(
            f"no few-step recipe {address!r}; {nearest(address, FEW_STEP)}; to train, "
            f"{', '.join(NEW_INPUTS)}; a recipe of your own is module:function, for example my_idea:video",
            code="recipe_invalid",
        )
    made = returned(NEW_INPUTS.get(address, address), object, "recipe")
    if not isinstance(made, Recipe | FewStep | NewInput):
        raise UsageError(
            f"{address} returns a {type(made).__name__}, not a Recipe, a FewStep or a NewInput", code="recipe_invalid"
        )
    return made
