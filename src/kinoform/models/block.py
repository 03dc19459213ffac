"""The block of the released models: self-attention, cross-attention to named context sources, feed-forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.attention.full import Full
from kinoform.models.linear import Linear, entering
from kinoform.models.norm import RMSNorm
from kinoform.models.protocols import (
    Attend,
    AttentionScheme,
    BlockParts,
    ContextSpec,
    Heads,
    KeyHeads,
    KeysValues,
    Stream,
    TransformerSizes,
)
from kinoform.ops.attention import attend
from kinoform.ops.norm import layer_norm, modulate
from kinoform.ops.rope import rotate
from kinoform.types import Grid

MODULATION_ROWS = 6  # shift, scale, gate of self-attention; shift, scale, gate of the feed-forward


@dataclass(frozen=True, slots=True, kw_only=True)
class FullBlock:
    """Block of the released models: x + gate * self_attention; + cross_attention; + gate * feed_forward."""

    attention: AttentionScheme = field(default_factory=Full)

    def __post_init__(self) -> None:
        if isinstance(self.attention, type) or not isinstance(cast(object, self.attention), AttentionScheme):
            raise UsageError(
                f"attention={self.attention!r} is no attention scheme; give one as Full()", code="wrong_type"
            )

    @property
    def modulation_rows(self) -> int:
        return MODULATION_ROWS

    def build(self, spec: TransformerSizes, layer: int) -> TransformerBlock:
        return TransformerBlock(spec, self.attention, layer)


def split_heads(x: Float[Tensor, "b l d"], count: int) -> Heads:
    """Cut the width d of each token into `count` heads of width k = d / count."""
    return rearrange(x, "b l (heads d) -> b l heads d", heads=count)


def merge_heads(x: Heads) -> Float[Tensor, "b l d"]:
    """Join the heads of each token, as the inverse of `split_heads`."""
    return rearrange(x, "b l heads d -> b l (heads d)")


def as_they_are(queries: Float[Tensor, "b l d"], grid: Grid) -> Float[Tensor, "b l d"]:
    """Return queries without a change."""
    return queries


class SelfAttention(nn.Module):
    """Normalised and rotated q and k, plain v, one output projection; `shape_queries` comes before the norm."""

    def __init__(self, dim: int, count: int, eps: float) -> None:
        super().__init__()
        self.count = count
        self.q, self.k, self.v, self.o = (Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(dim, eps), RMSNorm(dim, eps)
        self.shape_queries: Callable[[Tensor, Grid], Tensor] = as_they_are

    def forward(self, x: Float[Tensor, "b l d"], stream: Stream, kernel: Attend) -> Tensor:
        """Attend by `kernel`. `stream` lends its phases, grid and mesh; its tokens are not read."""
        x = entering(x, self.q, self.k, self.v)
        q = rotate(split_heads(self.norm_q(self.shape_queries(self.q(x), stream.grid)), self.count), stream.rotary)
        k = rotate(split_heads(self.norm_k(self.k(x)), self.count), stream.rotary)
        v = split_heads(self.v(x), self.count)
        del x  # attention needs its room
        return self.o(merge_heads(stream.mesh.attend(kernel, q, k, v, stream.grid)))


class ContextKeys(nn.Module):
    """Keys and values of one context source, with a norm and, where it is `gated`, a learned gate that starts at 0."""

    def __init__(self, dim: int, eps: float, gated: bool) -> None:
        super().__init__()
        self.k, self.v = Linear(dim, dim), Linear(dim, dim)
        self.norm_k = RMSNorm(dim, eps)
        self.gate = nn.Parameter(torch.zeros(1)) if gated else None


class CrossAttention(nn.Module):
    """One q for all context sources, k and v for each that is not appended to another.

    The results add up before the one output projection.
    """

    def __init__(self, dim: int, count: int, eps: float, sources: tuple[ContextSpec, ...]) -> None:
        super().__init__()
        self.count = count
        self.q, self.o = Linear(dim, dim), Linear(dim, dim)
        self.norm_q = RMSNorm(dim, eps)
        self.streams = nn.ModuleDict({s.name: ContextKeys(dim, eps, s.gated) for s in sources if s.concat_to is None})

    def source(self, name: str) -> ContextKeys:
        module = self.streams[name]
        assert isinstance(module, ContextKeys)
        return module

    def keys(self, context: Mapping[str, Tensor]) -> KeysValues:
        """Return k and v of every source that is given, k rounded to v's dtype as attention would at every step."""
        result: dict[str, tuple[KeyHeads, KeyHeads]] = {}
        for name, tokens in context.items():
            source = self.source(name)
            tokens = entering(tokens, source.k, source.v)
            v = source.v(tokens)
            k = source.norm_k(source.k(tokens)).to(v.dtype)
            result[name] = split_heads(k, self.count), split_heads(v, self.count)
        return result

    def forward(self, x: Float[Tensor, "b l d"], keys: KeysValues) -> Float[Tensor, "b l d"]:
        return self.o(merge_heads(self.attended(self.queries(x), keys)))

    def queries(self, x: Float[Tensor, "b l d"]) -> Heads:
        return split_heads(self.norm_q(self.q(x)), self.count)

    def attended(self, q: Heads, keys: KeysValues) -> Heads:
        """Return the sum of what the sources give, before the output projection."""
        total = None
        for name, (k, v) in keys.items():
            q = q.to(v.dtype)  # once, since the sources compute in one dtype
            attended = attend(q, k, v)
            gate = self.source(name).gate
            attended = attended if gate is None else attended * gate.to(attended.dtype)
            total = attended if total is None else total + attended
        assert total is not None, "the text is always there"
        return total


class TransformerBlock(nn.Module):
    """The six rows of `modulation` + time: shift, scale, gate for attention, then for the feed-forward.

    norm -> scale and shift -> self-attention -> gate; affine norm -> cross-attention; norm -> scale and
    shift -> feed-forward -> gate. Norms, modulation and the residual sums are float32.
    """

    def __init__(self, spec: TransformerSizes, scheme: AttentionScheme, layer: int) -> None:
        super().__init__()
        self.attend, self.eps = scheme.at(layer), spec.eps
        self.modulation = nn.Parameter(torch.zeros(1, MODULATION_ROWS, spec.dim))
        self.self_attention = SelfAttention(spec.dim, spec.heads, spec.eps)
        self.cross_norm = nn.LayerNorm(spec.dim, eps=spec.eps) if spec.cross_norm else None
        self.cross_attention = CrossAttention(spec.dim, spec.heads, spec.eps, spec.context)
        self.feed_forward = feed_forward(spec)

    @property
    def parts(self) -> BlockParts:
        return BlockParts(attention=("self_attention",), kernels=("attend",))

    def keys(self, context: Mapping[str, Tensor]) -> KeysValues:
        return self.cross_attention.keys(context)

    def forward(self, stream: Stream, keys: KeysValues) -> Stream:
        return self.after_context(self.before_context(stream), keys)

    def before_context(self, stream: Stream) -> Stream:
        shift, scale, gate = shift_scale_gate(self.modulation, stream, 0)
        x = modulate(stream.tokens, self.eps, shift, scale)
        return stream.add(self.self_attention(x, stream, self.attend), gate)

    def after_context(self, stream: Stream, keys: KeysValues) -> Stream:
        norm = self.cross_norm
        x = stream.tokens if norm is None else layer_norm(stream.tokens, self.eps, norm.weight, norm.bias)
        stream = stream.add(self.cross_attention(x, keys))
        shift, scale, gate = shift_scale_gate(self.modulation, stream, 3)
        x = modulate(stream.tokens, self.eps, shift, scale)
        return stream.add(self.feed_forward(x), gate)


def shift_scale_gate(table: Float[Tensor, "1 rows d"], stream: Stream, first: int) -> list[Float[Tensor, "#b n d"]]:
    """Three rows of a block's own table, each with what the level adds to it."""
    rows = table[:, None, first : first + 3].float() + stream.modulation.rows[:, :, first : first + 3]
    return [stream.modulation.of_tokens(rows[:, :, i]) for i in range(3)]


def feed_forward(spec: TransformerSizes) -> nn.Sequential:
    return nn.Sequential(
        Linear(spec.dim, spec.ffn_dim), nn.GELU(approximate="tanh"), Linear(spec.ffn_dim, spec.dim)
    )  # fmt: skip
