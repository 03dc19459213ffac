"""Blocks with a change for one prediction: copies that share all weights with the model's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.block import CrossAttention, merge_heads
from kinoform.models.protocols import Block, HasParts, Heads, KeyHeads, KeysValues, Stream
from kinoform.ops.layer_changes import (
    UNIFORM,
    BlockPart,
    IdentityAttention,
    LayerChange,
    NegativeAttention,
    SkipLayers,
)
from kinoform.types import Grid

TEXT, NEGATIVE_TEXT = "text", "negative text"
"""Names of the prompt's rows, and of the negative prompt's, in the context that keys are made of."""


@runtime_checkable
class ChangesItself(Protocol):
    """Block that makes its changed copies by itself, as one that stands around another does."""

    def changed(self, change: LayerChange) -> Block: ...


def changed_blocks(blocks: Sequence[Block], change: LayerChange) -> tuple[Block, ...]:
    """Return the blocks, those that the change names as changed copies; NegativeAttention changes all.

    Raises UsageError for layers that are not there, and for blocks that do not name their parts.
    """
    layers = range(len(blocks)) if isinstance(change, NegativeAttention) else change.layers
    check_layers(change, len(blocks))
    return tuple(changed(block, change) if layer in layers else block for layer, block in enumerate(blocks))


def check_layers(change: LayerChange, count: int) -> None:
    """Raise UsageError for a change of layers that a transformer of so many has not."""
    layers = () if isinstance(change, NegativeAttention) else change.layers
    if missing := [layer for layer in layers if not 0 <= layer < count]:
        raise UsageError(
            f"the guidance rule names layer {missing[0]}, and this transformer has {count}: 0 to {count - 1}; "
            f"write for example layers=[{count // 2}]",
            code="layer_missing",
        )


def changed(block: Block, change: LayerChange) -> Block:
    """Return a copy of a block with the change, which shares its weights. Raises UsageError where it has no parts."""
    if isinstance(block, ChangesItself):
        return block.changed(change)
    if isinstance(change, SkipLayers) and change.part is BlockPart.BLOCK:
        return Skipped()
    if not isinstance(block, HasParts):
        raise UsageError(
            f"the guidance rule changes layers, and blocks of {type(block).__name__} do not say what they consist of; "
            "choose another rule, as cfg",
            code="model_lacks_part",
        )
    parts, module = block.parts, cast("nn.Module", block)
    if isinstance(change, SkipLayers):
        names = parts.attention if change.part is BlockPart.ATTENTION else (parts.feed_forward,)
        return cast("Block", with_parts(module, dict.fromkeys(names, AddsNothing())))
    if isinstance(change, IdentityAttention):
        return cast("Block", with_parts(module, dict.fromkeys(parts.kernels, pass_values)))
    if isinstance(change, NegativeAttention):
        attention = NegatedCrossAttention(getattr(module, parts.cross_attention), change)
        return cast("Block", with_parts(module, {parts.cross_attention: attention}))
    blur = {"shape_queries": partial(blurred, sigma=change.sigma)}
    return cast(
        "Block", with_parts(module, {name: with_parts(getattr(module, name), blur) for name in parts.attention})
    )


def with_parts(module: nn.Module, parts: Mapping[str, Any]) -> nn.Module:
    """Return a copy of a module with other parts; it shares everything else, and is not compiled."""
    made = copy.copy(module)
    made._modules = dict(module._modules)  # pyright: ignore[reportPrivateUsage]
    made._compiled_call_impl = None  # pyright: ignore[reportPrivateUsage]
    for name, part in parts.items():
        setattr(made, name, part)
    return made


class Skipped:
    """Block that changes nothing."""

    def keys(self, context: Mapping[str, Tensor]) -> KeysValues:
        return {}

    def __call__(self, stream: Stream, keys: KeysValues) -> Stream:
        return stream

    def before_context(self, stream: Stream) -> Stream:
        return stream

    def after_context(self, stream: Stream, keys: KeysValues) -> Stream:
        return stream


class AddsNothing(nn.Module):
    """Part of a block whose result is 0."""

    def forward(self, x: Float[Tensor, "b l d"], *others: object) -> Float[Tensor, "b l d"]:
        return torch.zeros_like(x)


def pass_values(q: Heads, k: KeyHeads, v: KeyHeads, grid: Grid) -> Heads:
    """Attend by the identity: each token to itself alone."""
    return v


def blurred(x: Float[Tensor, "b l d"], grid: Grid, sigma: float) -> Float[Tensor, "b l d"]:
    """Blur the video's tokens over rows and columns of each frame by a Gaussian of `sigma` patches.

    From UNIFORM on each becomes the mean of its frame. Edges are mirrored, and the Gaussian is cut where the frame has
    no more to mirror. In-context tokens, behind those of the grid, stay.
    """
    video, rest = x[:, : grid.tokens], x[:, grid.tokens :]
    frames = rearrange(video, "b (f h w) d -> b f h w d", f=grid.frames, h=grid.height)
    if sigma >= UNIFORM:
        frames = frames.mean((2, 3), keepdim=True).expand(frames.shape)
    else:
        for axis in (2, 3):
            frames = _blurred_along(frames, axis, sigma)
    return torch.cat([rearrange(frames, "b f h w d -> b (f h w) d"), rest], dim=1)


def _blurred_along(frames: Tensor, axis: int, sigma: float) -> Tensor:
    reach = min(math.ceil(3 * sigma), frames.shape[axis] - 1)
    places = torch.arange(-reach, reach + 1, dtype=torch.float32, device=frames.device)
    weights = torch.softmax(-0.5 * (places / sigma) ** 2, dim=0)
    lines = frames.movedim(axis, -1).float()
    padded = F.pad(lines.flatten(0, -2)[:, None], (reach, reach), mode="reflect")
    return F.conv1d(padded, weights[None, None])[:, 0].reshape(lines.shape).to(frames.dtype).movedim(-1, axis)


class NegatedCrossAttention(nn.Module):
    """Cross-attention to the text that is led away from the negative text; other sources are added afterwards.

    Keys of the negative text stand beside the others under NEGATIVE_TEXT; the queries are the same.
    """

    def __init__(self, inner: CrossAttention, change: NegativeAttention) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def keys(self, context: Mapping[str, Tensor]) -> KeysValues:
        positive = {name: tokens for name, tokens in context.items() if name != NEGATIVE_TEXT}
        negative = self.inner.keys({TEXT: context[NEGATIVE_TEXT]})
        return {**self.inner.keys(positive), NEGATIVE_TEXT: negative[TEXT]}

    def forward(self, x: Float[Tensor, "b l d"], keys: KeysValues) -> Float[Tensor, "b l d"]:
        inner, q = self.inner, self.inner.queries(x)
        towards, away = (merge_heads(inner.attended(q, {TEXT: keys[name]})) for name in (TEXT, NEGATIVE_TEXT))
        result = normalized_attention(towards, away, self.change)
        if others := {name: pair for name, pair in keys.items() if name not in (TEXT, NEGATIVE_TEXT)}:
            result = result + merge_heads(inner.attended(q, others))
        return inner.o(result)


def normalized_attention(
    positive: Float[Tensor, "*l d"], negative: Float[Tensor, "*l d"], change: NegativeAttention
) -> Float[Tensor, "*l d"]:
    """Return alpha g min(r, tau) / r + (1 - alpha) z with g = s z - (s - 1) z', r = |g| / |z|; z, z' the arguments.

    NAG (Chen et al. 2025): z and z' are what attention returns for the prompt and the negative prompt, heads merged;
    norms are over the width. Its authors' code for Wan has L1 norms, that for Flux first had L2.
    """
    away = change.scale * positive - (change.scale - 1) * negative
    sums = (z.abs().pow(change.norm).sum(-1, keepdim=True) for z in (away, positive))
    size, wanted = (each.pow(1 / change.norm) for each in sums)
    ratio = size / wanted.clamp_min(1e-6)
    away = torch.where(ratio > change.tau, away * (change.tau / ratio), away)
    return change.alpha * away + (1 - change.alpha) * positive
