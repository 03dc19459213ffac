"""Changes of a transformer's layers for one prediction of guidance, by value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

Layers: TypeAlias = tuple[int, ...]
"""Blocks, counted from 0."""


class BlockPart(Enum):
    """Part of a block that is skipped."""

    BLOCK = "block"
    ATTENTION = "attention"
    FEED_FORWARD = "feed-forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipLayers:
    """Blocks, or their self-attention or their feed-forward, that add nothing."""

    layers: Layers
    part: BlockPart = BlockPart.BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityAttention:
    """Blocks in whose self-attention each token sees itself alone, so that its value passes through."""

    layers: Layers


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurredQueries:
    """Blocks whose queries are blurred over rows and columns of each frame, before norm and rotation.

    By a Gaussian of `sigma` patches; from UNIFORM on by the mean of the frame.
    """

    layers: Layers
    sigma: float


UNIFORM = 9999.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeAttention:
    """Cross-attention that is led away from the negative text, in all blocks; see `normalized_attention`.

    `norm` is 1 or 2, the order of the norms over the width.
    """

    scale: float
    tau: float
    alpha: float
    norm: int = 1


LayerChange: TypeAlias = SkipLayers | IdentityAttention | BlurredQueries | NegativeAttention
