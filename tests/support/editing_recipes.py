"""Recipes of the tiny model for commands that change videos."""

from dataclasses import replace

from kinoform.conditions.video_to_video import StartVideo
from kinoform.recipe import Recipe
from tests.support.troubled_recipes import ctrl_c


def interrupted() -> Recipe:
    """Ctrl-C while the first segment is made."""
    return replace(ctrl_c(), conditioners=(StartVideo(),))
