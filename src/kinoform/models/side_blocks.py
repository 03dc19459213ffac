"""Side blocks: a second, shorter row of blocks that reads a control video and leaves hints in the main row.

Source: VACE (Jiang et al., "VACE: All-in-One Video Creation and Editing", 2025), as the official Wan 2.1 code has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.dit import PatchEmbedding
from kinoform.models.linear import Linear
from kinoform.models.protocols import Block, KeysValues, Stream, TransformerSizes
from kinoform.ops.patch import covers
from kinoform.ops.rope import Rotary
from kinoform.types import Grid, Latents


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Control of side blocks: latents [b, channels, f, h, w] on the grid of the video, and the weight of the hints."""

    latents: Latents
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBlocks:
    """Side block j, of the same kind as the main blocks, gives its hint to main block `layers[j]`.

    `channels` are those of the control. The defaults are VACE's: 2 * 16 latents and 8 * 8 of the mask. Raises
    UsageError unless `layers` ascend from 0 or more.
    """

    layers: tuple[int, ...]
    channels: int = 96
    name: str = "vace"

    def __post_init__(self) -> None:
        if not self.layers or self.layers[0] < 0 or list(self.layers) != sorted(set(self.layers)):
            raise UsageError(
                f"the layers of side blocks ascend from 0 or more; {list(self.layers)} do not", code="spec_inconsistent"
            )

    @property
    def copies(self) -> Mapping[str, str]:
        """Prefix of each side block -> that of the main block beside it, whose values it begins with, as VACE's did."""
        return {f"blocks.{place}.": f"blocks.{layer}." for place, layer in enumerate(self.layers)}

    def build(self, spec: TransformerSizes) -> SideBranch:
        """Raises UsageError when the main row has no such layer."""
        if self.layers[-1] >= spec.layers:
            raise UsageError(
                f"a side block belongs to layer {self.layers[-1]}; the model has {spec.layers} layers",
                code="spec_inconsistent",
            )
        return SideBranch(self, spec)


class Side(NamedTuple):
    """State passed from side block to side block: once a video all but `stream`, which begins at every step."""

    start: Float[Tensor, "b l d"]
    keys: tuple[KeysValues, ...]
    scale: float
    stream: Stream | None = None


class SideBranch(nn.Module):
    """x of main block l = block(x) + scale * after(c), where c is what side block j has made of

    c0 = before(patches of the control) + patches of the noisy video, for l = layers[j]. `before` and `after`
    start at zero: a fresh branch has no effect.
    """

    def __init__(self, own: SideBlocks, spec: TransformerSizes) -> None:
        super().__init__()
        self.layers, self.channels = own.layers, own.channels
        self.patch_embedding = PatchEmbedding(own.channels, spec.dim, spec.patch)
        self.before = Linear(spec.dim, spec.dim)
        self.blocks = nn.ModuleList(spec.block.build(spec, layer) for layer in own.layers)
        self.after = nn.ModuleList(Linear(spec.dim, spec.dim) for _ in own.layers)
        for linear in (self.before, *self.after):
            nn.init.zeros_(cast(Linear, linear).weight)
            nn.init.zeros_(cast(Linear, linear).bias)

    def prepare(self, payload: Control, context: Mapping[str, Tensor], grid: Grid) -> Side:
        """Raises UsageError for a control of another number of channels, or of another size than the video."""
        latents, embedding = payload.latents, self.patch_embedding
        if latents.shape[1] != self.channels or not covers(grid, latents, embedding.patch):
            wants = f"{self.channels} channels on the grid {grid}"
            raise UsageError(
                f"a control of shape {tuple(latents.shape)} given; the side blocks read {wants}", code="wrong_shape"
            )
        tokens = embedding.part(latents.to(embedding.weight.device), 0) + embedding.bias
        return Side(
            start=self.before(tokens),
            keys=tuple(self._block(place).keys(context) for place in range(len(self.layers))),
            scale=payload.scale,
        )

    def open(self, stream: Stream, payload: Side) -> tuple[None, Side]:
        side = replace(_video_of(stream), tokens=(payload.start + stream.start).float())
        return None, payload._replace(stream=side.split())

    def after_block(self, layer: int, stream: Stream, state: Side) -> tuple[Stream, Side]:
        """The hint of a layer is made when it is needed: it depends on no main block, and no two are ever held."""
        if layer not in self.layers:
            return stream, state
        assert state.stream is not None, "opened before block 0"
        place = self.layers.index(layer)
        side = self._block(place)(state.stream, state.keys[place])
        hint = self.after[place](side.tokens) * state.scale
        return stream.add(_among_guests(hint, stream)), state._replace(stream=side)

    def close(self, stream: Stream, state: Side) -> Stream:
        return stream

    def _block(self, place: int) -> Block:
        return cast(Block, self.blocks[place])


def _video_of(stream: Stream) -> Stream:
    """A whole stream without its guests."""
    video, index = stream.grid.tokens, stream.modulation.index
    return replace(
        stream,
        tokens=stream.tokens[:, :video],
        rotary=Rotary(stream.rotary.cos[:video], stream.rotary.sin[:video]),
        modulation=replace(stream.modulation, index=None if index is None else index[:, :video]),
        guests=0,
    )


def _among_guests(change: Float[Tensor, "b m d"], stream: Stream) -> Float[Tensor, "b l d"]:
    """This rank's share of a change of the video's tokens; guests, on whatever rank they lie, are not changed."""
    if not stream.guests:
        return change
    whole = F.pad(stream.mesh.gather(change, 1), (0, 0, 0, stream.guests))
    return stream.mesh.split(whole, 1)
