"""Small users of the transformer's doors, each a value or a module as a research file would write it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from kinoform.models.block import FullBlock, SelfAttention, TransformerBlock
from kinoform.models.context import TextStream
from kinoform.models.dit import DiT, DiTSpec, PatchEmbedding
from kinoform.models.linear import Linear
from kinoform.models.ports import Attend, Guests, KeysValues, Stream
from kinoform.ops.attention import attend
from kinoform.ops.patch import grid_of
from kinoform.ops.rope import Rotary, grid_positions
from kinoform.types import Conditions, Grid
from models.recorded import spread

# Attention schemes


@dataclass(frozen=True, slots=True)
class SpaceThenTime:
    """Even layers see within a frame, odd layers within a place; `first` is where the turns begin."""

    first: int = 0

    def at(self, layer: int) -> Attend:
        return (within_frames, within_places)[(layer + self.first) % 2]


def within_frames(q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
    q, k, v = (rearrange(x, "b (f s) heads d -> (b f) s heads d", f=grid.frames) for x in (q, k, v))
    return rearrange(attend(q, k, v), "(b f) s heads d -> b (f s) heads d", f=grid.frames)


def within_places(q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
    q, k, v = (rearrange(x, "b (f s) heads d -> (b s) f heads d", f=grid.frames) for x in (q, k, v))
    places = grid.height * grid.width
    return rearrange(attend(q, k, v), "(b s) f heads d -> b (f s) heads d", s=places)


# A context stream


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceStream:
    """Rows of a reference picture, admitted by a gate that starts at 0."""

    width: int = 6
    name: str = "reference"
    gated: bool = True

    def build(self, dim: int, eps: float) -> nn.Module:
        return Linear(self.width, dim)


# A block with more rows of modulation


@dataclass(frozen=True, slots=True, kw_only=True)
class NineRows:
    """The full block with a self-attention in time of its own weights, shifted, scaled and gated by rows 6 to 8."""

    @property
    def modulation_rows(self) -> int:
        return 9

    def build(self, spec: DiTSpec, layer: int) -> nn.Module:
        return NineRowBlock(spec, FullBlock().attention, layer)


class NineRowBlock(TransformerBlock):
    def __init__(self, spec: DiTSpec, scheme: Any, layer: int) -> None:
        super().__init__(spec, scheme, layer)
        self.modulation = nn.Parameter(torch.zeros(1, 9, spec.dim))
        self.time_attention = SelfAttention(spec.dim, spec.heads, spec.eps)

    def before_context(self, stream: Stream) -> Stream:
        stream = super().before_context(stream)
        shift, scale, gate = self._rows(stream, 6)
        x = F.layer_norm(stream.tokens, stream.tokens.shape[-1:], eps=self.eps) * (1 + scale) + shift
        return stream.add(self.time_attention(x, stream, SpaceThenTime(first=1), 0) * gate)


# Branches


class Pictures(NamedTuple):
    """What the guest branch is told: latents, the place in time of the first of them, and their timestep."""

    latents: Tensor
    start: float
    timestep: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec:
    name: str = "guests"

    def build(self, spec: DiTSpec) -> nn.Module:
        return GuestBranch(spec)


class GuestBranch(nn.Module):
    """Frames that join self-attention at places and a level of their own."""

    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        self.embed = PatchEmbedding(spec.out_channels, spec.dim, spec.patch)

    def prepare(self, payload: Pictures, context: Mapping[str, Tensor], grid: Grid) -> Guests:
        places = grid_positions(grid_of(payload.latents, self.embed.patch))
        places[:, 0] += payload.start
        tokens = self.embed.part(payload.latents, 0) + self.embed.bias
        return Guests(tokens=tokens, positions=places, timestep=payload.timestep)

    def open(self, stream: Stream, payload: Guests) -> tuple[Guests, None]:
        return payload, None

    def after_block(self, layer: int, stream: Stream, state: None) -> tuple[Stream, None]:
        return stream, state

    def close(self, stream: Stream, state: None) -> Stream:
        return stream


class Control(NamedTuple):
    """What the side stream is told: latents of a control film, and how much its hints count."""

    latents: Tensor
    scale: float


class Side(NamedTuple):
    """The state of a side stream, made once a film (`tokens` before block 0) and then passed from block to block."""

    tokens: Tensor
    keys: tuple[KeysValues, ...]
    scale: float
    stream: Stream | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideSpec:
    """The control branch of VACE (Jiang et al., 2025): side block j belongs to main block `layers[j]`."""

    channels: int
    layers: tuple[int, ...]
    name: str = "vace"

    def build(self, spec: DiTSpec) -> nn.Module:
        return SideBranch(self, spec)


class SideBranch(nn.Module):
    def __init__(self, own: SideSpec, spec: DiTSpec) -> None:
        super().__init__()
        self.layers = own.layers
        self.embed = PatchEmbedding(own.channels, spec.dim, spec.patch)
        self.before = Linear(spec.dim, spec.dim)
        self.blocks = nn.ModuleList(FullBlock().build(spec, layer) for layer in own.layers)
        self.after = nn.ModuleList(Linear(spec.dim, spec.dim) for _ in own.layers)
        for module in (self.before, *self.after):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def prepare(self, payload: Control, context: Mapping[str, Tensor], grid: Grid) -> Side:
        tokens = self.before(self.embed.part(payload.latents, 0) + self.embed.bias)
        return Side(tokens=tokens, keys=tuple(block.keys(context) for block in self.blocks), scale=payload.scale)

    def open(self, stream: Stream, payload: Side) -> tuple[None, Side]:
        side = replace(without_guests(stream), tokens=(payload.tokens + stream.start).float())
        return None, payload._replace(stream=side.split())

    def after_block(self, layer: int, stream: Stream, state: Side) -> tuple[Stream, Side]:
        if layer not in self.layers:
            return stream, state
        place = self.layers.index(layer)
        side = self.blocks[place](state.stream, state.keys[place])
        hint = self.after[place](side.tokens) * state.scale
        return stream.add(among_guests(hint, stream)), state._replace(stream=side)

    def close(self, stream: Stream, state: Side) -> Stream:
        return stream


def without_guests(stream: Stream) -> Stream:
    """The film's part of a stream that is not split yet."""
    film, index = stream.grid.tokens, stream.modulation.index
    return replace(
        stream,
        tokens=stream.tokens[:, :film],
        rotary=Rotary(stream.rotary.cos[:film], stream.rotary.sin[:film]),
        modulation=replace(stream.modulation, index=None if index is None else index[:, :film]),
    )


def among_guests(change: Tensor, stream: Stream) -> Tensor:
    """A change of the film's tokens, shared out like all tokens: guests, on whatever rank they lie, get none."""
    total = len(stream.mesh.gather(stream.rotary.cos, 0))
    change = stream.mesh.gather(change, 1)
    return stream.mesh.split(F.pad(change, (0, 0, 0, total - change.shape[1])), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSpec:
    name: str = "count"

    def build(self, spec: DiTSpec) -> nn.Module:
        return CountBranch()


class CountBranch(nn.Module):
    """Counts the blocks that it sees from its payload on, and at the end leaves the count in every token."""

    def prepare(self, payload: int, context: Mapping[str, Tensor], grid: Grid) -> int:
        return payload

    def open(self, stream: Stream, payload: int) -> tuple[None, int]:
        return None, payload

    def after_block(self, layer: int, stream: Stream, state: int) -> tuple[Stream, int]:
        return stream, state + 1

    def close(self, stream: Stream, state: int) -> Stream:
        return replace(stream, tokens=torch.full_like(stream.tokens, 0).index_fill(2, torch.tensor([0]), state))


# A small transformer, a film, and what it is told

TEXT = TextStream(width=10, rows=8)
TINY = DiTSpec(dim=24, ffn_dim=40, heads=4, layers=3, in_channels=4, out_channels=4, frequency_width=32,
               patch=(1, 1, 1), context=(TEXT,))  # fmt: skip
FACTORISED = replace(TINY, block=FullBlock(attention=SpaceThenTime()))
SIDE = SideSpec(channels=5, layers=(0, 2))
GRID = Grid(frames=3, height=3, width=5)
TIMES = torch.tensor([600.0])


def random_dit(spec: DiTSpec, seed: int = 1) -> DiT:
    model = spec.build().requires_grad_(False)
    spread(model, seed)
    return model


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def film(seed: int = 2, channels: int = 4, frames: int = GRID.frames) -> Tensor:
    return noise(seed, 1, channels, frames, GRID.height, GRID.width)


TOLD = Conditions(context={"text": noise(3, 1, 5, 10)})


def run(model: DiT, x: Tensor, told: Conditions = TOLD, times: Tensor = TIMES) -> Tensor:
    return model(x, times, model.prepare(told, replace(GRID, frames=x.shape[2])))
