"""`mini` with factorized attention, for comparison: the same codec, the same text encoder, another transformer.

Attention alternates between space and time, with a stream of reference images between them. A block has two
self-attentions where that of `mini` has one, and half the feed-forward: a video takes as many operations to 4 %.
"""

from dataclasses import replace

from kinoform.mini.adapters import CONTEXT_REFERENCES, READ
from kinoform.mini.recipe import mini
from kinoform.models.context import ReferenceEncoderSpec
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.recipe import Recipe

IMAGES = replace(READ, encoder=ReferenceEncoderSpec(dim=80, dim_ffn=160))


def mini_factorized() -> Recipe:
    """Return the recipe of `mini` with factorized blocks and reference images; 5 million parameters."""
    base = mini()
    transformer = replace(
        base.transformer, ffn_dim=384, block=FactorizedBlock(), context=(*base.transformer.context, IMAGES)
    )
    return replace(
        base,
        name="mini-factorized",
        transformers=(transformer,),
        conditioners=(CONTEXT_REFERENCES, *base.conditioners),
    )
