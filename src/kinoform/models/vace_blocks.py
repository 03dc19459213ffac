"""VACE's context blocks: a shorter stack of blocks that reads a control video and adds residuals to the main one.

Source: VACE (Jiang et al., "VACE: All-in-One Video Creation and Editing", 2025), as the official Wan 2.1 code has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.linear import Linear
from kinoform.models.patch_embedding import PatchEmbedding
from kinoform.models.protocols import Block, KeysValues, Stream, TransformerSizes, as_it_is
from kinoform.ops.patch import covers
from kinoform.ops.rope import Rotary
from kinoform.types import Grid, Latents


@dataclass(frozen=True, slots=True, kw_only=True)
class VaceContext:
    """VACE's context: latents [b, channels, f, h, w] on the grid of the video, and the scale of the residuals."""

    latents: Latents
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VaceBlocks:
    """Context blocks of the same kind as the main blocks; block j adds its residual after main block `layers[j]`.

    `channels` are those of the context latents. The defaults are VACE's: 2 * 16 latents and 8 * 8 of the mask. Raises
    UsageError unless `layers` ascend from 0 or more.
    """

    layers: tuple[int, ...]
    channels: int = 96
    name: str = "vace"

    def __post_init__(self) -> None:
        if not self.layers or self.layers[0] < 0 or list(self.layers) != sorted(set(self.layers)):
            raise UsageError(
                f"the layers of VACE blocks ascend from 0 or more; {list(self.layers)} do not", code="spec_inconsistent"
            )

    @property
    def copies(self) -> Mapping[str, str]:
        """Prefix of each block -> that of the main block beside it, whose values it begins with, as VACE's did."""
        return {f"blocks.{index}.": f"blocks.{layer}." for index, layer in enumerate(self.layers)}

    def build(self, spec: TransformerSizes) -> VaceBranch:
        """Raises UsageError when the transformer has no such layer."""
        if self.layers[-1] >= spec.layers:
            raise UsageError(
                f"a VACE block belongs to layer {self.layers[-1]}; the model has {spec.layers} layers",
                code="spec_inconsistent",
            )
        return VaceBranch(self, spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class VaceModule:
    """Sizes of VACE's blocks by themselves, and those of the transformer that they stand beside."""

    blocks: VaceBlocks
    beside: TransformerSizes

    def build(self) -> VaceBranch:
        """Raises UsageError as `VaceBlocks.build`."""
        return self.blocks.build(self.beside)


class VaceState(NamedTuple):
    """State passed from block to block: made once a video, but for `stream`, which begins at every step."""

    start: Float[Tensor, "b l d"]
    keys: tuple[KeysValues, ...]
    scale: float
    stream: Stream | None = None


class VaceBranch(nn.Module):
    """Branch by which x = block(x) + scale * after_j(c_j) after main block layers[j], with c_j = block_j(c_(j-1)).

    c before the first block is before(patches of the context latents) + patches of the noisy video. `before` and
    `after` start at zero: a fresh branch has no effect.
    """

    def __init__(self, own: VaceBlocks, spec: TransformerSizes) -> None:
        super().__init__()
        self.layers, self.channels = own.layers, own.channels
        self.patch_embedding = PatchEmbedding(own.channels, spec.dim, spec.patch)
        self.before = Linear(spec.dim, spec.dim)
        self.blocks = nn.ModuleList(spec.block.build(spec, layer) for layer in own.layers)
        self.after = nn.ModuleList(Linear(spec.dim, spec.dim) for _ in own.layers)
        for linear in (self.before, *self.after):
            nn.init.zeros_(cast(Linear, linear).weight)
            nn.init.zeros_(cast(Linear, linear).bias)
        self.around: Callable[[Block], Block] = as_it_is

    def prepare(self, payload: VaceContext, context: Mapping[str, Tensor], grid: Grid) -> VaceState:
        """Raises UsageError for context latents of another number of channels, or of another size than the video."""
        latents, embedding = payload.latents, self.patch_embedding
        if latents.shape[1] != self.channels or not covers(grid, latents, embedding.patch):
            wants = f"{self.channels} channels on the grid {grid}"
            raise UsageError(f"VACE latents {tuple(latents.shape)} given; the blocks read {wants}", code="wrong_shape")
        tokens = embedding.part(latents.to(embedding.weight.device), 0) + embedding.bias
        return VaceState(
            start=self.before(tokens),
            keys=tuple(self._block(index).keys(context) for index in range(len(self.layers))),
            scale=payload.scale,
        )

    def open(self, stream: Stream, payload: VaceState) -> tuple[None, VaceState]:
        own = replace(_video_of(stream), tokens=(payload.start + stream.start).float())
        return None, payload._replace(stream=own.split())

    def after_block(self, layer: int, stream: Stream, state: VaceState) -> tuple[Stream, VaceState]:
        """Compute the residual of a layer when it is needed: it depends on no main block, and no two are ever held."""
        if layer not in self.layers:
            return stream, state
        assert state.stream is not None, "opened before block 0"
        index = self.layers.index(layer)
        own = self._block(index)(state.stream, state.keys[index])
        residual = self.after[index](own.tokens) * state.scale
        return stream.add(_padded(residual, stream)), state._replace(stream=own)

    def close(self, stream: Stream, state: VaceState) -> Stream:
        return stream

    def _block(self, index: int) -> Block:
        return self.around(cast(Block, self.blocks[index]))


def _video_of(stream: Stream) -> Stream:
    """Return a whole stream without its in-context tokens."""
    video, index = stream.grid.tokens, stream.modulation.index
    return replace(
        stream,
        tokens=stream.tokens[:, :video],
        rotary=Rotary(stream.rotary.cos[:video], stream.rotary.sin[:video]),
        modulation=replace(stream.modulation, index=None if index is None else index[:, :video]),
        in_context=0,
    )


def _padded(residual: Float[Tensor, "b m d"], stream: Stream) -> Float[Tensor, "b l d"]:
    """Return this rank's share of a residual of the video's tokens, with zeros for in-context tokens on any rank."""
    if not stream.in_context:
        return residual
    whole = F.pad(stream.mesh.gather(residual, 1), (0, 0, 0, stream.in_context))
    return stream.mesh.split(whole, 1)
