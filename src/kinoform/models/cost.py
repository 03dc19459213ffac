"""What a plug of the transformer costs, told by its own spec; see `kinoform.plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from kinoform.types import Grid

if TYPE_CHECKING:
    from kinoform.models.dit import DiTSpec


class AttentionCost(NamedTuple):
    """What one self-attention takes, given q, k and v of a video's tokens and its guests.

    `pairs`: of a query and a key that it sees. `rows`: sequences of the video that stand in the kernel's batch, each
    `within` one of what this names. `keys` and `results`: tokens whose k and v, or what was found for them, are laid
    out in memory once more.
    """

    pairs: int
    rows: int = 1
    within: str = "video"
    keys: int = 0
    results: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCost:
    """What one block takes for one prompt: multiply-adds of its parts, in their order, by name.

    `before_context` and `after_context` are of a velocity, `keys` those of the cross-attention's k and v, which are
    made once a video. `attention` has an entry for each self-attention.
    """

    before_context: Mapping[str, int]
    after_context: Mapping[str, int]
    keys: int
    attention: tuple[AttentionCost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchCost:
    """What a branch adds, for one prompt. `once` and `each` are multiply-adds: of `prepare`, and of a velocity.

    `blocks`: the layers of further blocks of the model's own kind over the video's tokens, which read the context and
    have a residual stream of their own; `guests`: tokens that join the video's; `channels`: of the latents that it is
    given; `kept`: numbers in the weights' dtype that `prepare` keeps for a video.
    """

    blocks: tuple[int, ...] = ()
    once: int = 0
    each: int = 0
    guests: int = 0
    channels: int = 0
    kept: int = 0


@runtime_checkable
class Costed(Protocol):
    """A branch spec that tells its cost for a video of `video` tokens, given latents of `given` tokens."""

    def cost(self, spec: DiTSpec, video: int, given: int) -> BranchCost: ...


@runtime_checkable
class CostedRows(Protocol):
    """A context stream that tells the multiply-adds of embedding its rows, how many of them there are by default, and
    how many rows the blocks read of so many.
    """

    @property
    def usual_rows(self) -> int: ...
    def products(self, dim: int, rows: int) -> int: ...
    def read(self, rows: int) -> int: ...


@runtime_checkable
class CostedScheme(Protocol):
    """An attention scheme that tells its cost in a layer."""

    def cost(self, layer: int, grid: Grid, guests: int) -> AttentionCost: ...


@runtime_checkable
class CostedBlock(Protocol):
    """A block spec that tells its cost in a layer, with `rows` of context; None where its scheme does not tell."""

    def cost(self, spec: DiTSpec, layer: int, grid: Grid, *, rows: int, guests: int) -> BlockCost | None: ...


def self_products(spec: DiTSpec, name: str, tokens: int, pairs: int) -> dict[str, int]:
    """Of q, k, v, o for every token; of a score and a share of a value for every pair."""
    return {f"{name}_projections": 4 * tokens * spec.dim**2, f"{name}_attention": 2 * pairs * spec.dim}


def cross_products(spec: DiTSpec, tokens: int, rows: int) -> dict[str, int]:
    """Of q and o for every token; of a score and a share of a value for every token and row."""
    return {"cross_projections": 2 * tokens * spec.dim**2, "cross_attention": 2 * tokens * rows * spec.dim}


def key_products(spec: DiTSpec, rows: int) -> int:
    """Of k and v for every row of context."""
    return 2 * rows * spec.dim**2


def feed_forward_products(spec: DiTSpec, tokens: int) -> dict[str, int]:
    return {"feed_forward": 2 * tokens * spec.dim * spec.ffn_dim}
