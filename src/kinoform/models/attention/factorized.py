"""Attention within frames or within places: the kernel sees (B, L, D) alone, and the rest stands in its batch.

Within a frame T is put into the batch, (B T, H W, D): every token of a frame sees that frame. Within a place H W is,
(B H W, T, D): every token sees its own place at all times, past and future. Positions travel with their tokens, so
what all tokens of a row share, t within a frame, h and w within a place, turns queries and keys alike and cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from kinoform.models.protocols import Attend, Heads, KeyHeads
from kinoform.ops.attention import attend
from kinoform.types import Grid


@dataclass(frozen=True, slots=True)
class WithinFrames:
    """Spatial attention in every layer: tokens see those of their own frame."""

    def at(self, layer: int) -> Attend:
        return within_frames


@dataclass(frozen=True, slots=True)
class WithinPlaces:
    """Temporal attention in every layer: tokens see those at their own place in all frames."""

    def at(self, layer: int) -> Attend:
        return within_places


@dataclass(frozen=True, slots=True)
class Alternating:
    """Spatial attention in layers 0, 2, 4, ... and temporal attention in the others, without weights of its own.

    So the full block of a released checkpoint runs under it, though it was not trained for that.
    """

    def at(self, layer: int) -> Attend:
        return within_places if layer % 2 else within_frames


def within_frames(q: Heads, k: KeyHeads, v: KeyHeads, grid: Grid) -> Heads:
    """Attend within each frame. In-context tokens are seen from every frame, and see one another."""
    video = grid.tokens
    queries, keys, values = (_frames(x[:, :video], grid) for x in (q, k, v))
    if q.shape[1] == video:
        return _video(attend(queries, keys, values), grid)
    added = [x[:, video:] for x in (q, k, v)]
    keys, values = (
        torch.cat([own, repeat(more, "b g heads k -> (b f) g heads k", f=grid.frames)], dim=1)
        for own, more in zip((keys, values), added[1:], strict=True)
    )
    return torch.cat([_video(attend(queries, keys, values), grid), attend(*added)], dim=1)


def within_places(q: Heads, k: KeyHeads, v: KeyHeads, grid: Grid) -> Heads:
    """Attend within each place, at all times. In-context tokens, at no place of the video, see one another."""
    video, places = grid.tokens, grid.height * grid.width
    rows = (rearrange(x[:, :video], "b (f p) heads k -> (b p) f heads k", p=places) for x in (q, k, v))
    attended = rearrange(attend(*rows), "(b p) f heads k -> b (f p) heads k", p=places)
    if q.shape[1] == video:
        return attended
    return torch.cat([attended, attend(*(x[:, video:] for x in (q, k, v)))], dim=1)


def _frames(x: KeyHeads, grid: Grid) -> Float[Tensor, "rows p heads k"]:
    return rearrange(x, "b (f p) heads k -> (b f) p heads k", f=grid.frames)


def _video(x: Float[Tensor, "rows p heads k"], grid: Grid) -> Heads:
    return rearrange(x, "(b f) p heads k -> b (f p) heads k", f=grid.frames)
