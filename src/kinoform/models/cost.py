"""What a plug of the transformer costs, told by its own spec; see `kinoform.plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from kinoform.models.dit import DiTSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchCost:
    """What a branch adds, for one prompt. `once` and `each` are multiply-adds: of `prepare`, and of a velocity.

    `blocks`: further blocks of the model's own kind over the film's tokens, which read the context and have a
    residual stream of their own; `guests`: tokens that join the film's; `channels`: of the latents that it is
    given; `kept`: numbers in the weights' dtype that `prepare` keeps for a film.
    """

    blocks: int = 0
    once: int = 0
    each: int = 0
    guests: int = 0
    channels: int = 0
    kept: int = 0


@runtime_checkable
class Costed(Protocol):
    """A branch spec that tells its cost for a film of `film` tokens, given latents of `given` tokens."""

    def cost(self, spec: DiTSpec, film: int, given: int) -> BranchCost: ...


@runtime_checkable
class CostedRows(Protocol):
    """A context stream that tells the multiply-adds of embedding one row, and how many rows there are by default."""

    @property
    def usual_rows(self) -> int: ...
    def row_products(self, dim: int) -> int: ...
