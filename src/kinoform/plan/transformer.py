"""Floating-point operations of the transformer, in closed form: 2 per multiply-add of products and attention.

L tokens, C width, F hidden width, n context rows. Norms, activations, softmax and rotation are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from kinoform.errors import UsageError
from kinoform.models.attention.full import Full
from kinoform.models.block import FullBlock
from kinoform.models.context import ImageStream, TextStream
from kinoform.models.dit import DiTSpec
from kinoform.plan.work import context_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFlops:
    """One block, one guidance branch. The cross-attention's k and v depend on the context alone."""

    self_projections: int  # 2 * 4 L C^2
    self_attention: int  # 2 * 2 L^2 C
    cross_projections: int  # 2 * 2 L C^2: q and o
    cross_keys: int  # 2 * 2 n C^2 for each stream
    cross_attention: int  # 2 * 2 L n C for each stream
    feed_forward: int  # 2 * 2 L C F

    @property
    def before_context(self) -> int:
        """What both guidance branches have in common where they still have the same tokens."""
        return self.self_projections + self.self_attention

    @property
    def after_context(self) -> int:
        return self.cross_projections + self.cross_attention + self.feed_forward

    @property
    def total(self) -> int:
        return self.before_context + self.cross_keys + self.after_context


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideFlops:
    """What stands around the blocks, one guidance branch."""

    patch_embedding: int
    time_embedding: int
    context_embedding: int
    head: int

    @property
    def total(self) -> int:
        return self.patch_embedding + self.time_embedding + self.context_embedding + self.head


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerFlops:
    """Of a transformer at a number of tokens."""

    block: BlockFlops
    outside: OutsideFlops
    layers: int

    @property
    def forward(self) -> int:
        """One branch of one step with nothing kept or shared, as the official code runs it."""
        return self.layers * self.block.total + self.outside.total

    def official(self, steps: int) -> int:
        """A film as the official code makes it: two whole forwards a step, whatever the guidance."""
        return steps * 2 * self.forward

    def executed(self, steps: int, branches: int) -> int:
        """A film as kinoform makes it, with a solver that asks for one velocity a step.

        Both prompts are embedded, and their k and v made, once; each step embeds the latents and runs the
        first self-attention once for all branches.
        """
        block, outside = self.block, self.outside
        prepare = 2 * (outside.context_embedding + self.layers * block.cross_keys)
        shared = outside.patch_embedding + outside.time_embedding + block.before_context
        own = (self.layers - 1) * block.before_context + self.layers * block.after_context + outside.head
        return prepare + steps * (shared + branches * own)


def transformer_flops(spec: DiTSpec, tokens: int) -> TransformerFlops:
    """Raises UsageError for blocks, streams or branches whose operations are not known."""
    _check(spec)
    dim, rows = spec.dim, sum(context_rows(stream) for stream in spec.context)
    square = dim * dim
    block = BlockFlops(
        self_projections=2 * 4 * tokens * square,
        self_attention=2 * 2 * tokens * tokens * dim,
        cross_projections=2 * 2 * tokens * square,
        cross_keys=2 * 2 * rows * square,
        cross_attention=2 * 2 * tokens * rows * dim,
        feed_forward=2 * 2 * tokens * dim * spec.ffn_dim,
    )
    outside = OutsideFlops(
        patch_embedding=2 * tokens * dim * spec.in_channels * prod(spec.patch),
        time_embedding=2 * (spec.frequency_width * dim + (1 + spec.block.modulation_rows) * square),
        context_embedding=2 * sum(context_rows(each) * _row_products(each, dim) for each in spec.context),
        head=2 * tokens * dim * spec.out_channels * prod(spec.patch),
    )
    return TransformerFlops(block=block, outside=outside, layers=spec.layers)


def _row_products(stream: object, dim: int) -> int:
    """Multiply-adds for one row of a context stream: two layers."""
    if isinstance(stream, TextStream):
        return stream.width * dim + dim * dim
    assert isinstance(stream, ImageStream)
    return stream.width * stream.width + stream.width * dim


def _check(spec: DiTSpec) -> None:
    if not isinstance(spec.block, FullBlock) or not isinstance(spec.block.attention, Full):
        raise UsageError(f"the operations of {spec.block} are not known; plan a recipe of FullBlock()")
    for stream in spec.context:
        if not isinstance(stream, TextStream | ImageStream):
            raise UsageError(f"the operations of context stream {stream} are not known; plan a recipe without it")
    if spec.branches:
        raise UsageError(f"the operations of branch {spec.branches[0].name!r} are not known; plan a recipe without it")
