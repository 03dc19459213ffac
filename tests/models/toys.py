"""Small users of the transformer's doors, each a value or a module as a research file would write it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from kinoform.models.block import FullBlock, SelfAttention, TransformerBlock, shift_scale_gate
from kinoform.models.context import ReferenceContext, TextContext
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.patch_embedding import PatchEmbedding
from kinoform.models.protocols import Attend, InContextTokens, Stream
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.ops.attention import attend
from kinoform.ops.patch import grid_of
from kinoform.ops.rope import grid_positions
from kinoform.types import Conditions, Grid
from tests.models.recorded import spread

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
        shift, scale, gate = shift_scale_gate(self.modulation, stream, 6)
        x = F.layer_norm(stream.tokens, stream.tokens.shape[-1:], eps=self.eps) * (1 + scale) + shift
        return stream.add(self.time_attention(x, stream, SpaceThenTime(first=1).at(0)) * gate)


# Branches


class Images(NamedTuple):
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

    def prepare(self, payload: Images, context: Mapping[str, Tensor], grid: Grid) -> InContextTokens:
        places = grid_positions(grid_of(payload.latents, self.embed.patch))
        places[:, 0] += payload.start
        tokens = self.embed.part(payload.latents, 0) + self.embed.bias
        return InContextTokens(tokens=tokens, positions=places, timestep=payload.timestep)

    def open(self, stream: Stream, payload: InContextTokens) -> tuple[InContextTokens, None]:
        return payload, None

    def after_block(self, layer: int, stream: Stream, state: None) -> tuple[Stream, None]:
        return stream, state

    def close(self, stream: Stream, state: None) -> Stream:
        return stream


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


# A small transformer, a video, and what it is told

TEXT = TextContext(width=10, length=8)
TINY = DiTSpec(dim=24, ffn_dim=40, heads=4, layers=3, in_channels=4, out_channels=4, frequency_width=32,
               patch=(1, 1, 1), context=(TEXT,))  # fmt: skip
FACTORISED = replace(TINY, block=FullBlock(attention=SpaceThenTime()))
SIDE = VaceBlocks(channels=5, layers=(0, 2))
REFERENCES = ReferenceContext(width=6)
GRID = Grid(frames=3, height=3, width=5)
TIMES = torch.tensor([600.0])


def random_dit(spec: DiTSpec, seed: int = 1) -> DiT:
    model = spec.build().requires_grad_(False)
    spread(model, seed)
    return model


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def video(seed: int = 2, channels: int = 4, frames: int = GRID.frames) -> Tensor:
    return noise(seed, 1, channels, frames, GRID.height, GRID.width)


TOLD = Conditions(context={"text": noise(3, 1, 5, 10)})


def run(model: DiT, x: Tensor, told: Conditions = TOLD, times: Tensor = TIMES) -> Tensor:
    return model(x, times, model.prepare(told, replace(GRID, frames=x.shape[2])))
