"""`mini` as two experts: low-rank changes of its transformer, one for high noise and one for low.

The smallest model of the kind of Wan 2.2 A14B. The plan of its training is in mini/plans.py; docs/mini.md shows what
came of it.
"""

from dataclasses import replace

from kinoform.mini.recipe import mini
from kinoform.recipe import Recipe

BOUNDARY = 0.9
"""Half of the steps, 8 of 16 and 4 of 8, lie at timesteps of at least 900."""


def mini_experts() -> Recipe:
    """Return the recipe of `mini-experts`, in all else that of `mini`."""
    base = mini()
    return replace(base, name="mini-experts", transformers=2 * base.transformers, boundaries=(BOUNDARY,))
