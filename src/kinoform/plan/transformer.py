"""Floating-point operations of the transformer, in closed form: 2 per multiply-add of products and attention.

What a block takes, its own spec tells; see models/cost.py. Norms, activations, softmax and rotation are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from kinoform.errors import UsageError
from kinoform.models.cost import BlockCost, BranchCost, Costed, CostedBlock, CostedRows
from kinoform.models.dit import DiTSpec
from kinoform.plan.evaluations import Evaluations
from kinoform.plan.work import NOTHING_TOLD, Told, context_rows
from kinoform.types import Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFlops:
    """One block, one guidance branch, by part. The cross-attention's k and v depend on the context alone.

    Both guidance branches have `before` in common where they still have the same tokens.
    """

    before: Mapping[str, int]
    after: Mapping[str, int]
    cross_keys: int

    @property
    def before_context(self) -> int:
        return sum(self.before.values())

    @property
    def after_context(self) -> int:
        return sum(self.after.values())

    @property
    def parts(self) -> Mapping[str, int]:
        return {**self.before, **self.after, "cross_keys": self.cross_keys}

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
    """A branch that is given something, one guidance branch: what it makes once a video, and at each velocity."""

    once: int
    each: int

    @property
    def total(self) -> int:
        return self.once + self.each


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerFlops:
    """Of a transformer and a video, with a block for each layer."""

    blocks: tuple[BlockFlops, ...]
    outside: OutsideFlops
    branches: Mapping[str, BranchFlops]

    @property
    def parts(self) -> Mapping[str, int]:
        """Of all blocks together, by part."""
        names = dict.fromkeys(name for block in self.blocks for name in block.parts)
        return {name: sum(block.parts.get(name, 0) for block in self.blocks) for name in names}

    @property
    def forward(self) -> int:
        """One branch of one step with nothing kept or shared, as the official code runs it."""
        beside = sum(branch.total for branch in self.branches.values())
        return sum(block.total for block in self.blocks) + self.outside.total + beside

    @property
    def prepare(self) -> int:
        """What is made of the conditions once a video: embedded rows and channels, k and v, what branches are given."""
        once = sum(branch.once for branch in self.branches.values())
        keys = sum(block.cross_keys for block in self.blocks)
        return self.outside.context_embedding + self.outside.channel_embedding + keys + once

    @property
    def begin(self) -> int:
        """Of a velocity: what does not read the context."""
        return self.outside.patch_embedding + self.outside.time_embedding + self.blocks[0].before_context

    @property
    def rest(self) -> int:
        """Of a velocity: what comes after `begin`."""
        each = sum(branch.each for branch in self.branches.values())
        blocks = sum(block.before_context + block.after_context for block in self.blocks)
        return blocks - self.blocks[0].before_context + self.outside.head + each

    def official(self, velocities: int, negative: TransformerFlops | None = None) -> int:
        """A video as the official code makes it: two whole forwards a velocity, whatever the guidance."""
        return velocities * (self.forward + (negative or self).forward)

    def executed(self, asked: Evaluations, negative: TransformerFlops | None = None) -> int:
        """A video as kinoform makes it; `negative` is what the negative prompt takes where it is given less.

        Each velocity begins once for both prompts, or for each where branches are at work.
        """
        other = negative or self
        begun = self.begin + (other.begin if self.branches or other.branches else 0)
        pair, single = begun + self.rest + other.rest, self.begin + self.rest
        prepared = asked.fields * self.prepare + asked.negatives * other.prepare
        return prepared + asked.pairs * pair + asked.singles * single


def transformer_flops(spec: DiTSpec, grid: Grid, given: Told = NOTHING_TOLD) -> TransformerFlops:
    """Of the tokens of a grid that are denoised. Streams and branches that do not tell their cost are left out.

    Raises UsageError for blocks, or an attention scheme in them, that do not tell theirs.
    """
    tokens, rows, costs = grid.tokens, context_rows(spec, given), dict(branch_costs(spec, grid.tokens, given))
    guests = sum(cost.guests for cost in costs.values())
    inviting = sum(cost.guests > 0 for cost in costs.values())
    main = block_costs(spec, range(spec.layers), grid, given, guests)
    if main is None:
        raise UsageError(
            f"the operations of {spec.block} are not known; give it a `cost`, as FullBlock and Full have",
            code="cost_unknown",
        )
    dim, patch = spec.dim, prod(spec.patch)
    times = 1 + 2 * inviting  # with guests, the levels of video and guests are embedded anew
    embedded = sum(each.products(dim, rows[each.name]) for each in spec.context if isinstance(each, CostedRows))
    gates = (2 if inviting else 1) * dim * spec.out_channels if spec.skip else 0
    outside = OutsideFlops(
        patch_embedding=2 * tokens * dim * spec.out_channels * patch,
        channel_embedding=2 * tokens * dim * (spec.in_channels - spec.out_channels) * patch,
        time_embedding=times * 2 * (spec.frequency_width * dim + (1 + spec.block.modulation_rows) * dim * dim),
        context_embedding=2 * embedded,
        head=2 * ((tokens + guests) * dim * spec.out_channels * patch + gates),
    )
    branches = {
        name: _branch(cost, block_costs(spec, cost.blocks, grid, given, 0) or ()) for name, cost in costs.items()
    }
    return TransformerFlops(blocks=tuple(map(_block, main)), outside=outside, branches=branches)


def block_costs(
    spec: DiTSpec, layers: Iterable[int], grid: Grid, given: Told, guests: int
) -> tuple[BlockCost, ...] | None:
    """Of blocks of the model's kind at these layers; None where they do not tell."""
    if not isinstance(spec.block, CostedBlock):
        return None
    given_rows = context_rows(spec, given)
    rows = sum(each.read(given_rows[each.name]) for each in spec.context if isinstance(each, CostedRows))
    found = [spec.block.cost(spec, layer, grid, rows=rows, guests=guests) for layer in layers]
    told = tuple(cost for cost in found if cost is not None)
    return told if len(told) == len(found) else None


def branch_costs(spec: DiTSpec, tokens: int, given: Told) -> Iterator[tuple[str, BranchCost]]:
    """Of each branch that is given something and tells its cost."""
    for branch in spec.branches:
        if branch.name in given.branches and isinstance(branch, Costed):
            yield branch.name, branch.cost(spec, tokens, given.branches[branch.name])


def _branch(cost: BranchCost, blocks: Iterable[BlockCost]) -> BranchFlops:
    inside = [_block(block) for block in blocks]
    return BranchFlops(
        once=2 * cost.once + sum(block.cross_keys for block in inside),
        each=2 * cost.each + sum(block.before_context + block.after_context for block in inside),
    )


def _block(cost: BlockCost) -> BlockFlops:
    before, after = (
        {name: 2 * products for name, products in parts.items()} for parts in (cost.before_context, cost.after_context)
    )
    return BlockFlops(before=before, after=after, cross_keys=2 * cost.keys)
