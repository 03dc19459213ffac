"""Recipes of the tiny model for commands that change films."""

from dataclasses import replace

from kinoform.conditions.start_film import StartFilm
from kinoform.recipe import Recipe
from troubled_recipes import ctrl_c


def interrupted() -> Recipe:
    """Ctrl-C while the first segment is made."""
    return replace(ctrl_c(), conditioners=(StartFilm(),))
