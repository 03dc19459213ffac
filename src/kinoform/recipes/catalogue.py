"""Models by name: those that are embedded, their adapters, the released ones; and the places of their weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kinoform.checkpoints.hub import folder_name, is_hub_id
from kinoform.checkpoints.hub_cache import released_snapshot, snapshot_at, snapshot_of
from kinoform.conditions.inputs import InputField
from kinoform.conditions.protocols import declared
from kinoform.errors import UsageError, WeightsError
from kinoform.families import released_for, released_models
from kinoform.folders import user_folder
from kinoform.recipe import Recipe, find
from kinoform.recipes.bernini import bernini_1_3b, bernini_a14b
from kinoform.recipes.wan21 import (
    flf2v_14b,
    i2v_14b_480p,
    i2v_14b_720p,
    t2i_14b,
    t2v_1_3b,
    t2v_14b,
    vace_1_3b,
    vace_14b,
)
from kinoform.recipes.wan22 import i2v_a14b, t2v_a14b, ti2v_5b, vace_a14b

EMBEDDED = {
    "mini": "kinoform.mini.recipe:mini",
    "mini-factorized": "kinoform.mini.factorized_recipe:mini_factorized",
}

ADAPTERS = {
    "mini:fast": "kinoform.mini.adapters:fast",
    "mini:frames": "kinoform.mini.adapters:frames",
    "mini:vace": "kinoform.mini.adapters:vace",
    "mini:context": "kinoform.mini.adapters:context",
    "mini:reference": "kinoform.mini.adapters:reference",
}
"""Embedded models with an embedded adapter, and its recipe."""

UNSHIPPED = {
    "mini-experts": "kinoform.mini.experts_recipe:mini_experts",
}
"""Adapters that `kinoform train` makes and the package does not hold, and their recipes."""

STUDENTS = {"mini": "mini:fast"}
"""Models, and what was distilled from each to make its videos in a few steps without guidance."""

COMPARED = ("kinoform.mini.adapters:in_context_references", "kinoform.mini.adapters:reference_context")
"""Recipes of adapters of which the better one is embedded."""

RELEASED = {
    "t2v-1.3b": t2v_1_3b,
    "t2v-14b": t2v_14b,
    "t2i-14b": t2i_14b,
    "i2v-14b-480p": i2v_14b_480p,
    "i2v-14b-720p": i2v_14b_720p,
    "flf2v-14b": flf2v_14b,
    "vace-1.3b": vace_1_3b,
    "vace-14b": vace_14b,
    "t2v-a14b": t2v_a14b,
    "i2v-a14b": i2v_a14b,
    "ti2v-5b": ti2v_5b,
    "vace-a14b": vace_a14b,
    "bernini-1.3b": bernini_1_3b,
    "bernini-a14b": bernini_a14b,
}
ASSETS = Path(__file__).parents[1] / "assets"


def cache_folder() -> Path:
    """The folder where weights of released models are looked for: $XDG_CACHE_HOME/kinoform, else ~/.cache/kinoform.

    Where no home is known, as in some containers, .cache/kinoform in the current folder.
    """
    return (user_folder("XDG_CACHE_HOME", ".cache") or Path(".cache")) / "kinoform"


def adapter_asset(name: str) -> Path:
    """Return the file of the adapter of a name in ADAPTERS.

    Raises WeightsError for one that is not there, as of a name in UNSHIPPED, with the command that trains it.
    """
    file = ASSETS / f"{name.replace(':', '-')}.safetensors"
    if not file.is_file():
        raise WeightsError(
            f"there is no {file}; train it with `kinoform train {name}`, and give what that writes as --model",
            code="weights_missing",
        )
    return file


def place_of(name: str) -> Path:
    """Find the weights that a name of `load` stands for; a path, or a name that is none, stands for itself.

    Raises WeightsError for a released model that was not fetched and an adapter that was not trained, with the command
    that brings it.
    """
    if name in EMBEDDED:
        return ASSETS / name
    if name in ADAPTERS or name in UNSHIPPED:
        return adapter_asset(name)
    return cached(name) if name in RELEASED else Path(resolve(name))


def resolve(name: str) -> str:
    """Resolve a hub id to the folder into which it was fetched, a folder of Hugging Face's cache to its snapshot.

    Any other name stands for itself.
    """
    if os.path.isdir(name):
        return str(snapshot_at(Path(name)))
    if not is_hub_id(name):
        return name
    place = cache_folder() / "hub" / folder_name(name)
    return str(place) if os.path.isdir(place) else str(snapshot_of(name) or name)


def cached(name: str) -> Path:
    """Return the folder of a released model, fetched by kinoform or by another program.

    Raises WeightsError for a model that was not fetched, with the command that fetches it.
    """
    released = released_for(name)
    assert released is not None, f"{name} is no released model"
    folder = cache_folder() / released.model
    if os.path.isdir(folder):  # Path.is_dir raises in a home of somebody else
        return folder
    if (there := released_snapshot(released.hub)) is not None:
        return there
    raise WeightsError(
        f"the weights of {name} are not here; fetch them into {folder} with: kinoform download {name}, or pass the "
        "path of a folder that has them as --model",
        code="weights_missing",
    )


def with_vace_blocks(base: Recipe) -> Recipe:
    """Return the recipe of a released text-to-video model with a VACE module on: that of its VACE model.

    Raises UsageError for another model.
    """
    weights = released_for(base.name)
    whole = None if weights is None else next((item for item in released_models() if item.base == weights.name), None)
    if whole is None:
        bases = [name for item in released_models() if item.base for name in recipes_of(item.base)]
        raise UsageError(
            f"no VACE module goes onto {base.name}; give --model {' or '.join(dict.fromkeys(bases))}, or the recipe of "
            "what it becomes with --recipe",
            code="module_not_taken",
        )
    return RELEASED[whole.recipes[0]]()


def base_of(name: str) -> str:
    """Return the model that a released VACE model is made of, with modules on; for any other, its own name."""
    whole = released_for(name)
    return name if whole is None or not whole.base else recipes_of(whole.base)[0]


def recipes_of(weights: str) -> tuple[str, ...]:
    """Return the names under which videos are made with released weights."""
    return next(item.recipes for item in released_models() if item.name == weights)


def trusted(place: Path, address: str) -> Recipe:
    """Return the recipe that weights name, if it is one of kinoform's own: a weight file must not choose code.

    Raises WeightsError for any other.
    """
    own = (*EMBEDDED.values(), *ADAPTERS.values(), *UNSHIPPED.values(), *COMPARED)
    if address not in (*own, *addresses(RELEASED.values())):
        raise WeightsError(
            f"{place} was made by the recipe {address!r}; pass --recipe {address} if you trust it",
            code="recipe_not_trusted",
        )
    return find(address)


def addresses(recipes: Iterable[Callable[[], Recipe]]) -> list[str]:
    """Return the address, module:function, of each recipe."""
    return [f"{recipe.__module__}:{recipe.__name__}" for recipe in recipes]


def takers(item: InputField[Any]) -> tuple[str, ...]:
    """Name the models of the package that take an input."""
    recipes = {name: find(address) for name, address in (EMBEDDED | ADAPTERS).items()}
    recipes |= {name: made() for name, made in RELEASED.items()}
    return tuple(name for name, recipe in recipes.items() if item in declared(recipe.conditioners))
