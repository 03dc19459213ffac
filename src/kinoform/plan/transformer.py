"""Floating-point operations of the transformer, in closed form: 2 per multiply-add of products and attention.

L tokens, C width, F hidden width, n context rows. Norms, activations, softmax and rotation are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from kinoform.errors import UsageError
from kinoform.models.attention.full import Full
from kinoform.models.block import FullBlock
from kinoform.models.cost import BranchCost, Costed, CostedRows
from kinoform.models.dit import DiTSpec
from kinoform.plan.evaluations import Evaluations
from kinoform.plan.work import NOTHING_TOLD, Told, context_rows


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
    """What stands around the blocks, one guidance branch; channels are those behind the noisy latents."""

    patch_embedding: int
    channel_embedding: int
    time_embedding: int
    context_embedding: int
    head: int

    @property
    def total(self) -> int:
        return (
            sum((self.patch_embedding, self.channel_embedding, self.time_embedding))
            + self.context_embedding
            + self.head
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchFlops:
    """A branch that is given something, one guidance branch: what it makes once a film, and at each velocity."""

    once: int
    each: int

    @property
    def total(self) -> int:
        return self.once + self.each


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerFlops:
    """Of a transformer at a number of tokens."""

    block: BlockFlops
    outside: OutsideFlops
    layers: int
    branches: Mapping[str, BranchFlops]

    @property
    def forward(self) -> int:
        """One branch of one step with nothing kept or shared, as the official code runs it."""
        beside = sum(branch.total for branch in self.branches.values())
        return self.layers * self.block.total + self.outside.total + beside

    def official(self, velocities: int) -> int:
        """A film as the official code makes it: two whole forwards a velocity, whatever the guidance."""
        return velocities * 2 * self.forward

    def executed(self, asked: Evaluations) -> int:
        """A film as kinoform makes it.

        Both prompts are embedded, and their k and v made, once, as is what embeds channels and branches are
        given; each velocity embeds the latents and runs the first self-attention once for both prompts, or for
        each where branches are at work.
        """
        block, outside, beside = self.block, self.outside, self.branches.values()
        once = sum(branch.once for branch in beside)
        prepare = outside.context_embedding + outside.channel_embedding + self.layers * block.cross_keys + once
        begin = outside.patch_embedding + outside.time_embedding + block.before_context
        each = sum(branch.each for branch in beside)
        rest = (self.layers - 1) * block.before_context + self.layers * block.after_context + outside.head + each
        begun = 2 if self.branches else 1
        pair, single = begun * begin + 2 * rest, begin + rest
        return asked.fields * 2 * prepare + asked.pairs * pair + asked.singles * single


def transformer_flops(spec: DiTSpec, tokens: int, given: Told = NOTHING_TOLD) -> TransformerFlops:
    """Of `tokens` that are denoised. Streams and branches that do not tell their cost are left out.

    Raises UsageError for blocks whose operations are not known.
    """
    if not isinstance(spec.block, FullBlock) or not isinstance(spec.block.attention, Full):
        raise UsageError(f"the operations of {spec.block} are not known; plan a recipe of FullBlock()")
    rows, costs = context_rows(spec, given), dict(branch_costs(spec, tokens, given))
    count = sum(rows.values())
    guests = sum(cost.guests for cost in costs.values())
    inviting = sum(cost.guests > 0 for cost in costs.values())
    dim, patch, beside = spec.dim, prod(spec.patch), _block(spec, tokens, count)
    times = 1 + 2 * inviting  # with guests, the levels of film and guests are embedded anew
    embedded = sum(rows[each.name] * each.row_products(dim) for each in spec.context if isinstance(each, CostedRows))
    outside = OutsideFlops(
        patch_embedding=2 * tokens * dim * spec.out_channels * patch,
        channel_embedding=2 * tokens * dim * (spec.in_channels - spec.out_channels) * patch,
        time_embedding=times * 2 * (spec.frequency_width * dim + (1 + spec.block.modulation_rows) * dim * dim),
        context_embedding=2 * embedded,
        head=2 * (tokens + guests) * dim * spec.out_channels * patch,
    )
    branches = {
        name: BranchFlops(
            once=2 * cost.once + cost.blocks * beside.cross_keys,
            each=2 * cost.each + cost.blocks * (beside.before_context + beside.after_context),
        )
        for name, cost in costs.items()
    }
    return TransformerFlops(
        block=_block(spec, tokens + guests, count), outside=outside, layers=spec.layers, branches=branches
    )


def branch_costs(spec: DiTSpec, tokens: int, given: Told) -> Iterator[tuple[str, BranchCost]]:
    """Of each branch that is given something and tells its cost."""
    for branch in spec.branches:
        if branch.name in given.branches and isinstance(branch, Costed):
            yield branch.name, branch.cost(spec, tokens, given.branches[branch.name])


def _block(spec: DiTSpec, tokens: int, rows: int) -> BlockFlops:
    dim, square = spec.dim, spec.dim * spec.dim
    return BlockFlops(
        self_projections=2 * 4 * tokens * square,
        self_attention=2 * 2 * tokens * tokens * dim,
        cross_projections=2 * 2 * tokens * square,
        cross_keys=2 * 2 * rows * square,
        cross_attention=2 * 2 * tokens * rows * dim,
        feed_forward=2 * 2 * tokens * dim * spec.ffn_dim,
    )
