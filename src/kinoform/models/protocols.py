"""Extension points of the transformer: protocols of its parts, and the values that pass between them.

A block, an attention scheme, a context source, a branch and a mesh are each a protocol here and a value
elsewhere. The transformer knows only these; it never learns the name of a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kinoform.ops.patch import Patch
from kinoform.ops.rope import Rotary
from kinoform.types import Grid

Heads: TypeAlias = Float[Tensor, "b l heads k"]
"""Queries of l tokens, or what attention returns for them, by head; k is the width of a head."""

KeyHeads: TypeAlias = Float[Tensor, "b n heads k"]
"""Keys or values of n tokens, by head."""

Attend: TypeAlias = Callable[[Heads, KeyHeads, KeyHeads, Grid], Heads]
"""Self-attention of (q, k, v), all rotated; video tokens first, in the order of the grid, then in-context tokens."""


@runtime_checkable
class AttentionScheme(Protocol):
    """Pattern of self-attention, a frozen value without weights; `at` may differ from layer to layer."""

    def at(self, layer: int) -> Attend: ...


@runtime_checkable
class Mesh(Protocol):
    """Division of a token axis among ranks; the only thing sequence parallelism may touch.

    `split` keeps this rank's part of `axis`, `gather` is its inverse, `attend` runs a scheme's attention
    so that every query of this rank sees the keys of all ranks.
    """

    def split(self, x: Tensor, axis: int) -> Tensor: ...
    def gather(self, x: Tensor, axis: int) -> Tensor: ...
    def attend(self, kernel: Attend, q: Heads, k: KeyHeads, v: KeyHeads, grid: Grid) -> Heads: ...


@dataclass(frozen=True, slots=True)
class Alone:
    """The mesh of one rank: nothing is split."""

    def split(self, x: Tensor, axis: int) -> Tensor:
        return x

    def gather(self, x: Tensor, axis: int) -> Tensor:
        return x

    def attend(self, kernel: Attend, q: Heads, k: KeyHeads, v: KeyHeads, grid: Grid) -> Heads:
        return kernel(q, k, v, grid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Modulation:
    """Noise levels that are present, and which token has which.

    `embedding` [b, levels, d] is read by the head, `rows` [b, levels, r, d] by the blocks, both float32;
    with an `index` they are those of the whole batch, b = 1. `index` [b, l] names the level of each
    token; None when all tokens of a sample share one, the usual case, for which no per-token copy is made.
    """

    embedding: Float[Tensor, "#b levels d"]
    rows: Float[Tensor, "#b levels r d"]
    index: Int[Tensor, "b l"] | None = None

    def of_tokens(self, table: Float[Tensor, "#b levels d"]) -> Float[Tensor, "#b n d"]:
        """The row of each token: [b, 1, d] to broadcast when there is one level, else gathered [b, l, d]."""
        if self.index is None:
            return table
        table = table.expand(len(self.index), -1, -1)
        return torch.take_along_dim(table, self.index[..., None], dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """State that flows through the blocks. Tokens [b, l, d] are the float32 residual stream.

    `rotary` holds the phases of their positions, `start` the patch-embedded input of the video's tokens
    (before block 0), `context` the embedded context tokens by source. `in_context` tokens stand after the video: those
    of segments, then those that branches add.
    """

    tokens: Float[Tensor, "b l d"]
    start: Float[Tensor, "b m d"]
    rotary: Rotary
    grid: Grid
    modulation: Modulation
    context: Mapping[str, Tensor]
    mesh: Mesh = Alone()
    in_context: int = 0

    def add(self, change: Float[Tensor, "b l d"], gate: Float[Tensor, "#b #l d"] | None = None) -> Stream:
        """tokens + change * gate."""
        sums = self.tokens + change if gate is None else torch.addcmul(self.tokens, change, gate)
        return replace(self, tokens=sums)

    def split(self) -> Stream:
        """Take this rank's share of everything that has one entry per token."""
        return self._along_tokens(self.mesh.split)

    def gather(self) -> Stream:
        """Undo `split`."""
        return self._along_tokens(self.mesh.gather)

    def video(self) -> Stream:
        """Leave out the in-context tokens; for a stream that is not split."""
        own = self._along_tokens(lambda x, axis: x.narrow(axis, 0, self.grid.tokens))
        return replace(own, in_context=0)

    def _along_tokens(self, change: Callable[[Tensor, int], Tensor]) -> Stream:
        index = self.modulation.index
        return replace(
            self,
            tokens=change(self.tokens, 1),
            start=change(self.start, 1),
            rotary=Rotary(change(self.rotary.cos, 0), change(self.rotary.sin, 0)),
            modulation=replace(self.modulation, index=None if index is None else change(index, 1)),
        )


KeysValues: TypeAlias = Mapping[str, tuple[KeyHeads, KeyHeads]]
"""Cross-attention's k and v of one block, by context source: the same at every step, so made once a video."""


@runtime_checkable
class Block(Protocol):
    """Layer of the transformer. `before_context` does not depend on the context tokens; guidance shares it."""

    def keys(self, context: Mapping[str, Tensor]) -> KeysValues: ...
    def __call__(self, stream: Stream, keys: KeysValues) -> Stream: ...
    def before_context(self, stream: Stream) -> Stream: ...
    def after_context(self, stream: Stream, keys: KeysValues) -> Stream: ...


def as_it_is(block: Block) -> Block:
    """Return a block without anything around it."""
    return block


@runtime_checkable
class RunsBlocks(Protocol):
    """Module that runs blocks. `around` stands around each: it returns what runs in the block's place."""

    around: Callable[[Block], Block]


class BlockParts(NamedTuple):
    """Names of a block's attributes: modules of self-attention, and the kernels (`Attend`) that these are given."""

    attention: tuple[str, ...]
    kernels: tuple[str, ...]
    feed_forward: str = "feed_forward"
    cross_attention: str = "cross_attention"


@runtime_checkable
class HasParts(Protocol):
    """Block that names its parts, so that guidance may ask for a prediction with other ones."""

    @property
    def parts(self) -> BlockParts: ...


@runtime_checkable
class BlockSpec(Protocol):
    """Kind of block, by value. `modulation_rows` is the number of rows of modulation that it reads (6 or 9)."""

    @property
    def modulation_rows(self) -> int: ...
    def build(self, spec: TransformerSizes, layer: int) -> nn.Module: ...


@runtime_checkable
class ContextSpec(Protocol):
    """Named source of context tokens: their embedding, and how blocks read them.

    A source has k, v and norm of its own in every block and, where it is `gated`, a learned gate (from 0). With
    `concat_to` its tokens are appended to those of the source of that name and read by its k and v. A source that is
    gated or appended may be left out.
    """

    @property
    def name(self) -> str: ...
    @property
    def gated(self) -> bool: ...
    @property
    def concat_to(self) -> str | None: ...
    def build(self, dim: int, eps: float) -> nn.Module: ...


@runtime_checkable
class TransformerSizes(Protocol):
    """Sizes that blocks and branches are built from; `kinoform.api.DiTSpec` says what they mean."""

    @property
    def dim(self) -> int: ...
    @property
    def ffn_dim(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def out_channels(self) -> int: ...
    @property
    def patch(self) -> Patch: ...
    @property
    def eps(self) -> float: ...
    @property
    def cross_norm(self) -> bool: ...
    @property
    def context(self) -> tuple[ContextSpec, ...]: ...
    @property
    def block(self) -> BlockSpec: ...


class InContextTokens(NamedTuple):
    """Tokens that stand beside the video's in self-attention, with positions and a timestep of their own."""

    tokens: Float[Tensor, "b g d"]
    positions: Float[Tensor, "g 3"]
    timestep: float


@runtime_checkable
class Branch(Protocol):
    """Module beside the blocks. Its running state is a value that passes through, never an attribute.

    `prepare` runs once a video, `open` once a step before block 0 (it may add in-context tokens), `after_block`
    after each block, `close` after the last.
    """

    def prepare(self, payload: Any, context: Mapping[str, Tensor], grid: Grid) -> Any: ...
    def open(self, stream: Stream, payload: Any) -> tuple[InContextTokens | None, Any]: ...
    def after_block(self, layer: int, stream: Stream, state: Any) -> tuple[Stream, Any]: ...
    def close(self, stream: Stream, state: Any) -> Stream: ...


@runtime_checkable
class BranchSpec(Protocol):
    """Kind of branch, by value; `name` is where its payload stands in the conditions."""

    @property
    def name(self) -> str: ...
    def build(self, spec: TransformerSizes) -> nn.Module: ...
