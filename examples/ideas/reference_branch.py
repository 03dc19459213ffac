"""An idea in one file: images of what shall appear are read by a branch of its own behind chosen blocks.

    kinoform generate "a red ball moves left" --recipe reference_branch:recipe --reference ball.png

From this folder; from the root of the repository it is `--recipe examples.ideas.reference_branch:recipe`. Behind
every second block the video's tokens ask the images' tokens (cross-attention with weights of its own), and the
answer is added through a layer that begins at zero: until something has been trained, the videos are those of the
model itself. `recipe` is for the embedded model, `wan` for the 1.3B one (`--model t2v-1.3b`).

What learns is the branch (`LEARNS`) alone, or beside low-rank adapters (`ADAPTERS`); see
`Additions.trainable`. One file then holds both (`kinoform.api.save_adapter`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn

from kinoform.api import (
    Additions,
    Grid,
    InContextReferences,
    KeyHeads,
    Linear,
    LoRASpec,
    PatchEmbedding,
    Recipe,
    RMSNorm,
    Stream,
    TransformerSizes,
    attend,
    layer_norm,
    merge_heads,
    split_heads,
    t2v_1_3b,
)
from kinoform.mini import mini

NAME = "reader"
LEARNS = (f"branches.{NAME}.*",)
"""Parameters, as shell patterns."""

ADAPTERS = LoRASpec(patterns=("cross_attention.*", "feed_forward.*"), rank=16)

Seen: TypeAlias = tuple[tuple[KeyHeads, KeyHeads], ...]
"""Keys and values of the images' tokens, for each reader: the same at every step, so made once a video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSpec:
    """A reader behind each of the blocks in `layers`, counted from 0."""

    layers: tuple[int, ...]
    name: str = NAME

    @property
    def copies(self) -> Mapping[str, str]:
        """Names of the weights that begin as those of the video's embedding."""
        return {f"patch_embedding.{leaf}": f"patch_embedding.{leaf}" for leaf in ("weight", "bias")}

    def build(self, spec: TransformerSizes) -> nn.Module:
        return ReaderBranch(self, spec)


class ReaderBranch(nn.Module):
    """Branch whose payload are latents [1, c, 1, h, w] of images."""

    def __init__(self, own: ReaderSpec, spec: TransformerSizes) -> None:
        super().__init__()
        self.layers = own.layers
        self.patch_embedding = PatchEmbedding(spec.out_channels, spec.dim, spec.patch)
        self.readers = nn.ModuleList(Reader(spec) for _ in own.layers)

    def prepare(self, payload: Sequence[Tensor], context: Mapping[str, Tensor], grid: Grid) -> Seen:
        weight, bias = self.patch_embedding.weight, self.patch_embedding.bias
        images = [self.patch_embedding.part(latents.to(weight.device), 0) + bias for latents in payload]
        tokens = torch.cat(images, dim=1)
        return tuple(self._reader(place).keys(tokens) for place in range(len(self.layers)))

    def open(self, stream: Stream, payload: Seen) -> tuple[None, Seen]:
        return None, payload

    def after_block(self, layer: int, stream: Stream, state: Seen) -> tuple[Stream, Seen]:
        if layer not in self.layers:
            return stream, state
        place = self.layers.index(layer)
        return stream.add(self._reader(place)(stream.tokens, state[place])), state

    def close(self, stream: Stream, state: Seen) -> Stream:
        return stream

    def _reader(self, place: int) -> Reader:
        reader = self.readers[place]
        assert isinstance(reader, Reader)
        return reader


class Reader(nn.Module):
    """Cross-attention from the video's tokens to the images'; its last layer begins at zero."""

    def __init__(self, spec: TransformerSizes) -> None:
        super().__init__()
        self.count, self.eps = spec.heads, spec.eps
        self.q, self.k, self.v, self.o = (Linear(spec.dim, spec.dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(spec.dim, spec.eps), RMSNorm(spec.dim, spec.eps)
        nn.init.zeros_(self.o.weight)
        nn.init.zeros_(self.o.bias)

    def keys(self, tokens: Tensor) -> tuple[KeyHeads, KeyHeads]:
        tokens = layer_norm(tokens, self.eps)
        return split_heads(self.norm_k(self.k(tokens)), self.count), split_heads(self.v(tokens), self.count)

    def forward(self, tokens: Tensor, keys: tuple[KeyHeads, KeyHeads]) -> Tensor:
        q = split_heads(self.norm_q(self.q(layer_norm(tokens, self.eps))), self.count)
        k, v = (each.expand(len(tokens), -1, -1, -1) for each in keys)
        return self.o(merge_heads(attend(q, k, v)))


def put_onto(base: Recipe) -> Recipe:
    """Any model, with a reader behind every second block."""
    branch = ReaderSpec(layers=tuple(range(0, base.transformer.layers, 2)))
    return replace(
        base,
        name=f"{base.name}-reader",
        conditioners=(InContextReferences(branch=NAME),),
        additions=Additions(branches=(branch,)),
    )


def recipe() -> Recipe:
    return put_onto(mini())


def wan() -> Recipe:
    return put_onto(t2v_1_3b())
