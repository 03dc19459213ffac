"""Recipes of one small full-attention model, and of the factorized ones that are made from its weights."""

from dataclasses import replace

from kinoform.models.attention.factorized import Alternating, WithinFrames
from kinoform.models.block import FullBlock
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.models.protocols import BlockSpec
from kinoform.recipe import Recipe
from kinoform.recipes.wan21 import t2v_1_3b
from tests.support.official_folder import CODEC, TEXT, TRANSFORMER


def full() -> Recipe:
    """Three blocks of full attention, nine frames of 32x32: three latent frames of 2x2 tokens."""
    return replace(
        t2v_1_3b(), name="full", transformers=(TRANSFORMER,), codec=CODEC, text=TEXT,
        width=32, height=32, num_frames=9, steps=2, negative_prompt="",
    )  # fmt: skip


def space() -> Recipe:
    return _with(FullBlock(attention=WithinFrames()))


def alternating() -> Recipe:
    return _with(FullBlock(attention=Alternating()))


def between() -> Recipe:
    return _with(FactorizedBlock())


def after() -> Recipe:
    return _with(FactorizedBlock(cross="after"))


def _with(block: BlockSpec) -> Recipe:
    return replace(full(), transformers=(replace(TRANSFORMER, block=block),))
