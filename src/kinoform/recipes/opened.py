"""A recipe and the parts of weights, held against each other, with all that is put onto the transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

from kinoform.checkpoints.reader import HeaderReader
from kinoform.errors import UsageError, WeightsError
from kinoform.families import released_for
from kinoform.families.folders import stated_settings
from kinoform.loading.additions import Additions, stored_specs
from kinoform.loading.detect import stored_block
from kinoform.loading.experts import ExpertPaths
from kinoform.loading.own import open_own
from kinoform.loading.parts import Parts, own_parts, released_parts, repeated
from kinoform.loading.sources import Overrides
from kinoform.loading.vace_module import without_vace
from kinoform.models.dit import DiTSpec
from kinoform.pipelines.part_cache import kept
from kinoform.recipe import BySize, Recipe
from kinoform.recipes.catalogue import RELEASED, addresses, trusted, with_vace_blocks

PutOn: TypeAlias = Callable[[Parts], Parts]
"""Puts onto the transformers what was asked for."""

PutAdditions: TypeAlias = Callable[[Parts, Additions | None, tuple[DiTSpec, ...]], Parts]
"""Puts a recipe's additions onto transformers of these specs: as they begin, or as they were trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Wishes of a call of `load` beside the model.

    `recipe` takes the place of the one that the weights have; `change` makes another of either. `module` puts VACE
    modules on, None without any; `additions` and `loras` come behind it, in this order. `adapted`: one transformer of
    the weights stands for all of the recipe, which an adapter tells apart.
    """

    recipe: Recipe | None
    change: Callable[[Recipe], Recipe]
    overrides: Overrides
    keep_packed: bool | None
    reader: HeaderReader
    module: PutOn | None
    additions: PutAdditions
    loras: PutOn
    adapted: bool


def own_model(folder: Path, options: LoadOptions) -> tuple[Recipe, Parts]:
    """Open a folder of kinoform's own. Raises UsageError for parts named beside it, WeightsError as `open_own`."""
    if options.overrides != Overrides():
        raise UsageError(
            f"{folder} has all parts of its model; leave out those that are named one by one", code="options_conflict"
        )
    opened = open_own(folder, options.reader)
    address = opened.manifest.recipe
    made = options.recipe or trusted(folder, address)
    opened = opened.repeated(len(made.transformers)) if options.adapted else opened
    specs = made.transformers
    if options.module is not None and options.recipe is not None:  # which is that of the model with the module on
        specs = tuple(map(without_vace, specs))
    made = replace(made, transformers=tuple(stored_block(file, spec) for file, spec in opened.paired(specs)))
    held = stored_specs(opened, made.transformers, made.additions)
    parts = own_parts(opened, held, made.codec, made.text, made.image)
    if options.module is not None:
        parts = options.module(parts)
        whole = options.recipe or with_vace_blocks(made)
        _check_doors(folder, whole, parts.transformer_specs[0])
        made = replace(whole, transformers=parts.transformer_specs, codec=made.codec, text=made.text, image=made.image)
    made = options.change(made)
    parts = options.loras(options.additions(parts, made.additions, made.transformers))
    small = address not in addresses(RELEASED.values())
    return made, kept(parts) if small else replace(parts, fingerprint=cache(parts.fingerprint))


def released_model(path: Path | ExpertPaths, variant: str | None, options: LoadOptions) -> tuple[Recipe, Parts]:
    """Open weights without a manifest; `variant` is the released model that they are said to be.

    Raises WeightsError as `released_parts`, and where weights and recipe do not fit.
    """
    recipe, released = options.recipe, None if variant is None else released_for(variant)
    parts = released_parts(
        path,
        options.overrides,
        variant=None if released is None else released.model,
        named=recipe is not None,
        keep_packed=options.keep_packed,
        block=None if recipe is None else recipe.transformers[0].block,
        reader=options.reader,
    )
    assert parts.family is not None, "a family is detected in all weights without a manifest"
    made = recipe or RELEASED[variant or parts.model]()
    parts = repeated(parts, len(made.transformers)) if options.adapted else parts
    if options.module is not None:
        parts = options.module(parts)
        made = recipe or with_vace_blocks(made)
    _check_number(path, made, parts.transformer_specs)
    _check_doors(path, made, parts.transformer_specs[0])
    if isinstance(path, Path):
        parts = replace(parts, notes=(*parts.notes, *stated_otherwise(path, made)))
    made = replace(
        made,
        transformers=parts.transformer_specs,
        codec=parts.codec_spec,
        text=parts.text_spec,
        image=parts.image_spec,
    )
    made = options.change(made)
    parts = options.loras(options.additions(parts, made.additions, made.transformers))
    return made, replace(parts, fingerprint=cache(parts.fingerprint))


def stated_otherwise(folder: Path, recipe: Recipe) -> Iterator[str]:
    """Yield a note for each setting of a diffusers folder that is not the recipe's, which is taken."""
    stated, shift = stated_settings(folder), recipe.shift
    for name in stated.unreadable:
        yield f"its {name} is no number; that of the recipe is taken"
    shifts = (shift.small, shift.large) if isinstance(shift, BySize) else (shift,)
    if stated.flow_shift not in (None, *shifts):
        own = " or ".join(f"{value:g}" for value in shifts)
        yield f"its scheduler has flow_shift {stated.flow_shift:g}; the shift is that of the recipe, {own}"
    shares = [boundary for boundary in recipe.boundaries if isinstance(boundary, float)]
    if shares and stated.boundary_ratio not in (None, *shares):
        own = ", ".join(f"{value:g}" for value in shares)
        yield f"its boundary_ratio is {stated.boundary_ratio:g}; the boundary is that of the recipe, {own}"


def _check_number(path: object, recipe: Recipe, held: tuple[DiTSpec, ...]) -> None:
    """Raise WeightsError when the recipe describes more or fewer transformers."""
    if len(held) != len(recipe.transformers):
        raise WeightsError(
            f"number of transformers: {len(held)} in {path}, {len(recipe.transformers)} in the recipe {recipe.name}; "
            "leave out --recipe, or derive it from the one for these weights",
            code="recipe_contradicts_weights",
        )


def _check_doors(path: object, recipe: Recipe, held: DiTSpec) -> None:
    """Raises WeightsError when the recipe's inputs would not fill what these weights read beside the text."""
    if list(_doors(recipe.transformers[0])) != list(_doors(held)):
        found, wanted = (", ".join(_doors(spec)) or "text alone" for spec in (held, recipe.transformers[0]))
        raise WeightsError(
            f"{path} reads {found}, the recipe {recipe.name} gives {wanted}; leave out --recipe, or derive it from "
            "the one for these weights",
            code="weights_of_other_recipe",
        )


def _doors(spec: DiTSpec) -> Iterator[str]:
    if extra := spec.in_channels - spec.out_channels:
        yield f"{extra} channels after the latents"
    for stream in spec.context:
        if stream.name != "text":
            yield f"rows of the stream {stream.name}" + (" with places" if getattr(stream, "positions", 0) else "")
    for branch in spec.branches:
        yield f"the branch {branch.name}"
