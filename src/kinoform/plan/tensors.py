"""The tensors that a video passes through, with their shapes, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch

from kinoform.plan.transformer import block_costs, branch_costs
from kinoform.plan.work import Sizes, Work, canvas_of, context_rows, demands, grid_of, told


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlan:
    """`dtype` is that of the networks where it says so, else what the code keeps whatever they compute in."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def values(self) -> int:
        return prod(self.shape)


def tensors(sizes: Sizes, work: Work, dtype: torch.dtype) -> tuple[TensorPlan, ...]:
    """From prompt to frames, for one prompt and one guidance branch."""
    spec, codec, text = sizes.transformer, sizes.codec, sizes.text
    network, grid = str(dtype).removeprefix("torch."), grid_of(sizes, work)
    canvas = canvas_of(sizes, work)
    latents, tokens, head_width = (1, codec.channels, *canvas), grid.tokens, spec.dim // spec.heads
    return (
        TensorPlan(name="prompt ids", shape=(1, text.length), dtype="int64"),
        TensorPlan(name="text rows", shape=(1, text.length, text.dim), dtype=network),
        *_encoded(sizes, work, network),
        *_rows(sizes, work, network),
        TensorPlan(name="noise, latents", shape=latents, dtype="float32"),
        *_conditions(sizes, work),
        TensorPlan(name="patch grid", shape=(grid.frames, grid.height, grid.width), dtype=""),
        TensorPlan(name="tokens", shape=(1, tokens, spec.dim), dtype="float32"),
        TensorPlan(name="q, k, v", shape=(1, tokens + _guests(sizes, work), spec.heads, head_width), dtype=network),
        *_within(sizes, work, network),
        TensorPlan(name="feed-forward, hidden", shape=(1, tokens + _guests(sizes, work), spec.ffn_dim), dtype=network),
        TensorPlan(name="head output", shape=(1, tokens, spec.out_channels * prod(spec.patch)), dtype="float32"),
        TensorPlan(name="prediction", shape=latents, dtype="float32"),
        TensorPlan(name="decoded pixels", shape=(1, 3, work.num_frames, work.height, work.width), dtype="float32"),
        TensorPlan(name="frames", shape=(work.num_frames, work.height, work.width, 3), dtype="uint8"),
    )


def _encoded(sizes: Sizes, work: Work, network: str) -> Iterator[TensorPlan]:
    """What the encoders of videos and images take; a number of them where there are several."""
    needed = demands(sizes, work)
    videos, stills, images = (sum(getattr(each, name) for each in needed) for name in ("videos", "stills", "images"))
    if videos:
        shape = (videos, 3, work.num_frames, work.height, work.width)
        yield TensorPlan(name="videos to encode", shape=shape, dtype="float32")
    if stills:
        yield TensorPlan(name="frames to encode", shape=(stills, 3, 1, work.height, work.width), dtype="float32")
    if images and sizes.image is not None:
        yield TensorPlan(name="image encoder rows", shape=(images, sizes.image.rows, sizes.image.dim), dtype=network)


def _rows(sizes: Sizes, work: Work, network: str) -> Iterator[TensorPlan]:
    """What cross-attention reads; the sum of all streams where there are several."""
    spec = sizes.transformer
    found = {name: count for name, count in context_rows(spec, told(sizes, work)).items() if count}
    for name, count in found.items():
        yield TensorPlan(name=f"{name} rows, embedded", shape=(1, count, spec.dim), dtype=network)
    if len(found) > 1:
        yield TensorPlan(name="context", shape=(1, sum(found.values()), spec.dim), dtype=network)


def _conditions(sizes: Sizes, work: Work) -> Iterator[TensorPlan]:
    """Latents behind the noisy ones and both together, and those that branches are given."""
    spec, canvas, given = sizes.transformer, canvas_of(sizes, work), told(sizes, work)
    if extra := spec.in_channels - spec.out_channels:
        yield TensorPlan(name="channels", shape=(1, extra, *canvas), dtype="float32")
        yield TensorPlan(name="latents and channels", shape=(1, spec.in_channels, *canvas), dtype="float32")
    grid = grid_of(sizes, work)
    for name, cost in branch_costs(spec, grid.tokens, given):
        frames = given.branches[name] // (grid.height * grid.width) * spec.patch[0]
        yield TensorPlan(name=f"branch {name}", shape=(1, cost.channels, frames, *canvas[1:]), dtype="float32")


def _within(sizes: Sizes, work: Work, network: str) -> Iterator[TensorPlan]:
    """q, k, v of the video as the attention kernel gets them, where the scheme puts parts of it into the batch."""
    spec, grid = sizes.transformer, grid_of(sizes, work)
    blocks = block_costs(spec, range(spec.layers), grid, told(sizes, work), _guests(sizes, work)) or ()
    found = {seen.within: seen.rows for block in blocks for seen in block.attention}
    for within, rows in found.items():
        if within != "video":
            shape = (rows, grid.tokens // rows, spec.heads, spec.dim // spec.heads)
            yield TensorPlan(name=f"q, k, v within {within}", shape=shape, dtype=network)


def _guests(sizes: Sizes, work: Work) -> int:
    costs = branch_costs(sizes.transformer, grid_of(sizes, work).tokens, told(sizes, work))
    return sum(cost.guests for _, cost in costs)
