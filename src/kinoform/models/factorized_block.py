"""The factorized block: spatial attention, cross-attention, temporal attention, feed-forward; each its own weights.

No released model is built so (docs/wan22.md); it is the second of the two systems that kinoform holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kinoform.models.attention.factorized import WithinFrames, WithinPlaces
from kinoform.models.block import CrossAttention, SelfAttention, feed_forward, shift_scale_gate
from kinoform.models.protocols import Attend, BlockParts, KeysValues, Stream, TransformerSizes
from kinoform.ops.norm import layer_norm, modulate

SPACE, FEED_FORWARD, TIME = 0, 3, 6
"""The first of three rows of modulation each (shift, scale, gate). Time stands last, where a full block has none."""

ROWS = 9
TIME_ATTENTION = ".time_attention."
"""Part of the names of parameters that only factorized blocks have."""

SPATIAL, TEMPORAL = WithinFrames(), WithinPlaces()


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorizedBlock:
    """Block of space, cross, time, feed-forward; with `cross` "after", of space, time, cross, feed-forward.

    Context, of text and of reference images beside it, enters by the cross-attention. What comes before it is the
    same under every prompt, and guidance computes it once: in the first order space alone, in the second time too.
    """

    cross: Literal["between", "after"] = "between"

    @property
    def modulation_rows(self) -> int:
        return ROWS

    def build(self, spec: TransformerSizes, layer: int) -> SpaceTimeBlock:
        return SpaceTimeBlock(spec, layer, time_first=self.cross == "after")


class SpaceTimeBlock(nn.Module):
    """Nine rows of `modulation` + level: shift, scale, gate of space, of the feed-forward, of time.

    Each part adds gate * part(norm -> scale and shift); the cross-attention, behind an affine norm, adds itself. With
    the rows of time at 0 the block is spatial attention, cross-attention and feed-forward alone, to the last bit.
    """

    def __init__(self, spec: TransformerSizes, layer: int, *, time_first: bool) -> None:
        super().__init__()
        self.eps, self.time_first = spec.eps, time_first
        self.space, self.time = SPATIAL.at(layer), TEMPORAL.at(layer)
        self.modulation = nn.Parameter(torch.zeros(1, ROWS, spec.dim))
        self.self_attention = SelfAttention(spec.dim, spec.heads, spec.eps)
        self.cross_norm = nn.LayerNorm(spec.dim, eps=spec.eps) if spec.cross_norm else None
        self.cross_attention = CrossAttention(spec.dim, spec.heads, spec.eps, spec.context)
        self.time_attention = SelfAttention(spec.dim, spec.heads, spec.eps)
        self.feed_forward = feed_forward(spec)

    @property
    def parts(self) -> BlockParts:
        return BlockParts(attention=("self_attention", "time_attention"), kernels=("space", "time"))

    def keys(self, context: Mapping[str, Tensor]) -> KeysValues:
        return self.cross_attention.keys(context)

    def forward(self, stream: Stream, keys: KeysValues) -> Stream:
        return self.after_context(self.before_context(stream), keys)

    def before_context(self, stream: Stream) -> Stream:
        stream = self._attended(stream, self.self_attention, self.space, SPACE)
        return self._attended(stream, self.time_attention, self.time, TIME) if self.time_first else stream

    def after_context(self, stream: Stream, keys: KeysValues) -> Stream:
        norm = self.cross_norm
        x = stream.tokens if norm is None else layer_norm(stream.tokens, self.eps, norm.weight, norm.bias)
        stream = stream.add(self.cross_attention(x, keys))
        if not self.time_first:
            stream = self._attended(stream, self.time_attention, self.time, TIME)
        shift, scale, gate = shift_scale_gate(self.modulation, stream, FEED_FORWARD)
        return stream.add(self.feed_forward(modulate(stream.tokens, self.eps, shift, scale)), gate)

    def _attended(self, stream: Stream, attention: nn.Module, kernel: Attend, first: int) -> Stream:
        shift, scale, gate = shift_scale_gate(self.modulation, stream, first)
        x = modulate(stream.tokens, self.eps, shift, scale)
        return stream.add(attention(x, stream, kernel), gate)


def has_time_attention(names: Iterable[str]) -> bool:
    """Return whether these are names of parameters of factorized blocks."""
    return any(TIME_ATTENTION in name for name in names)
