"""The tensors that a film passes through, with their shapes, in the order in which they are made."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch

from kinoform.plan.work import Sizes, Work, grid_of, latents_of


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
    latents = (1, codec.channels, *latents_of(sizes, work))
    tokens, head_width = grid.tokens, spec.dim // spec.heads
    embedded = [
        TensorPlan(name=f"{stream.name} rows, embedded", shape=(1, rows, spec.dim), dtype=network)
        for stream in spec.context
        if (rows := getattr(stream, "rows", 0))
    ]
    return (
        TensorPlan(name="prompt ids", shape=(1, text.length), dtype="int64"),
        TensorPlan(name="text rows", shape=(1, text.length, text.dim), dtype=network),
        *embedded,
        TensorPlan(name="noise, latents", shape=latents, dtype="float32"),
        TensorPlan(name="patch grid", shape=(grid.frames, grid.height, grid.width), dtype=""),
        TensorPlan(name="tokens", shape=(1, tokens, spec.dim), dtype="float32"),
        TensorPlan(name="q, k, v", shape=(1, tokens, spec.heads, head_width), dtype=network),
        TensorPlan(name="feed-forward, hidden", shape=(1, tokens, spec.ffn_dim), dtype=network),
        TensorPlan(name="head output", shape=(1, tokens, spec.out_channels * prod(spec.patch)), dtype="float32"),
        TensorPlan(name="prediction", shape=latents, dtype="float32"),
        TensorPlan(name="decoded pixels", shape=(1, 3, work.num_frames, work.height, work.width), dtype="float32"),
        TensorPlan(name="frames", shape=(work.num_frames, work.height, work.width, 3), dtype="uint8"),
    )
