"""Parts of a recipe that do not tell their cost, so that a plan without them is not taken for the whole."""

from __future__ import annotations

from collections.abc import Iterator

from kinoform.conditions.protocols import EstimatesCost
from kinoform.models.cost import Costed, CostedRows
from kinoform.models.vae import VAESpec
from kinoform.plan.parameters import codec_count
from kinoform.plan.transformer import block_costs
from kinoform.plan.work import Sizes, Work, grid_of, told


def uncounted(sizes: Sizes, work: Work) -> tuple[str, ...]:
    """Parts whose cost nobody tells, in words; each kind of part once, however many of it a recipe lists."""
    return tuple(dict.fromkeys(_found(sizes, work)))


def _found(sizes: Sizes, work: Work) -> Iterator[str]:
    spec, codec = sizes.transformer, sizes.codec
    if not codec.weightless and not isinstance(codec, VAESpec):
        beyond = " beyond its weights" if codec_count(codec).parameters else ""
        yield f"the codec {type(codec).__name__}{beyond}"
    if block_costs(spec, range(spec.layers), grid_of(sizes, work), told(sizes, work), 0) is None:
        yield f"what the attention of {type(spec.block).__name__} lays out"
    for each in work.conditioners:
        if not isinstance(each, EstimatesCost):
            yield f"what {type(each).__name__} encodes and gives"
    for stream in spec.context:
        if not isinstance(stream, CostedRows):
            yield f"the context stream {stream.name!r} beyond its weights"
    for branch in spec.branches:
        if not isinstance(branch, Costed):
            yield f"the branch {branch.name!r} beyond its weights"
