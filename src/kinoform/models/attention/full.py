"""Full spatio-temporal attention: every token sees every token."""

from dataclasses import dataclass

from kinoform.models.protocols import Attend, Heads, KeyHeads
from kinoform.ops.attention import attend
from kinoform.types import Grid


@dataclass(frozen=True, slots=True)
class Full:
    """Attention of every token to every token, as in every released Wan model."""

    def at(self, layer: int) -> Attend:
        return everywhere


def everywhere(q: Heads, k: KeyHeads, v: KeyHeads, grid: Grid) -> Heads:
    return attend(q, k, v)
