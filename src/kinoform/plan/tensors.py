"""The tensors that a video passes through, with their shapes, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from kinoform.plan.transformer import DenoiseRun
from kinoform.plan.workload import Sizes, Workload, denoised_latents, estimates, grid_of, output_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlan:
    """`dtype` is that of the networks where it says so, else what the code keeps whatever they compute in."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def values(self) -> int:
        return prod(self.shape)


def tensors(sizes: Sizes, workload: Workload, run: DenoiseRun, dtype: torch.dtype) -> tuple[TensorPlan, ...]:
    """Return the tensors from prompt to frames, for one prompt and one guidance branch."""
    spec, codec, text = sizes.transformer, sizes.codec, sizes.text
    network, grid = str(dtype).removeprefix("torch."), grid_of(sizes, workload)
    latents, head_width = (1, codec.channels, *denoised_latents(sizes, workload)), spec.dim // spec.heads
    tokens, size = run.tokens or grid.tokens, (workload.height, workload.width)
    return (
        TensorPlan(name="prompt ids", shape=(1, text.length), dtype="int64"),
        TensorPlan(name="text rows", shape=(1, text.length, text.dim), dtype=network),
        *_encoded(sizes, workload, network),
        *_rows(sizes, run, network),
        TensorPlan(name="noise, latents", shape=latents, dtype="float32"),
        *_conditions(sizes, workload),
        TensorPlan(name="patch grid", shape=(grid.frames, grid.height, grid.width), dtype=""),
        TensorPlan(name="tokens", shape=(1, grid.tokens, spec.dim), dtype="float32"),
        TensorPlan(name="q, k, v", shape=(1, tokens, spec.heads, head_width), dtype=network),
        *_within(sizes, workload, run, network),
        TensorPlan(name="feed-forward, hidden", shape=(1, tokens, spec.ffn_dim), dtype=network),
        TensorPlan(name="head output", shape=(1, grid.tokens, spec.out_channels * prod(spec.patch)), dtype="float32"),
        TensorPlan(name="prediction", shape=latents, dtype="float32"),
        TensorPlan(name="decoded pixels", shape=(1, 3, workload.all_frames, *size), dtype="float32"),
        TensorPlan(name="frames", shape=(workload.all_frames, *size, 3), dtype="uint8"),
    )


def _encoded(sizes: Sizes, workload: Workload, network: str) -> Iterator[TensorPlan]:
    """Arguments of the encoders of videos and images; a number of them where there are several."""
    costs, size = estimates(sizes, workload), (workload.height, workload.width)
    videos, stills, images = (sum(getattr(each, name) for each in costs) for name in ("videos", "stills", "images"))
    if videos:
        yield TensorPlan(name="videos to encode", shape=(videos, 3, workload.num_frames, *size), dtype="float32")
    if stills:
        yield TensorPlan(name="frames to encode", shape=(stills, 3, 1, *size), dtype="float32")
    if images and sizes.image is not None:
        yield TensorPlan(name="image encoder rows", shape=(images, sizes.image.tokens, sizes.image.dim), dtype=network)


def _rows(sizes: Sizes, run: DenoiseRun, network: str) -> Iterator[TensorPlan]:
    """Plan what cross-attention reads, appended sources with the one that reads them; and the sum of several."""
    dim = sizes.transformer.dim
    for name, count in run.embedded.items():
        yield TensorPlan(name=f"{name} rows, embedded", shape=(1, count, dim), dtype=network)
    apart = [each.name for each in sizes.transformer.context if each.concat_to is None]
    if len(run.embedded) > 1:
        whole = sum(run.embedded.get(name, 0) for name in apart)
        yield TensorPlan(name="context", shape=(1, whole, dim), dtype=network)


def _conditions(sizes: Sizes, workload: Workload) -> Iterator[TensorPlan]:
    """Latents behind the noisy ones and both together, and those that branches are given."""
    spec, latents = sizes.transformer, denoised_latents(sizes, workload)
    if extra := spec.in_channels - spec.out_channels:
        yield TensorPlan(name="channels", shape=(1, extra, *latents), dtype="float32")
        yield TensorPlan(name="latents and channels", shape=(1, spec.in_channels, *latents), dtype="float32")
    for name, payload in output_of(sizes, workload).branches.items():
        held = list(_held(payload))
        if held and all(each.shape == held[0].shape and each.dim() == 5 for each in held):
            shape = (*held[0].shape[:2], len(held) * held[0].shape[2], *held[0].shape[3:])
            yield TensorPlan(name=f"branch {name}", shape=shape, dtype="float32")
        else:
            yield from (TensorPlan(name=f"branch {name}", shape=tuple(each.shape), dtype="float32") for each in held)


def _held(payload: Any) -> Iterator[Tensor]:
    """The tensors in what a branch is given."""
    if isinstance(payload, Tensor):
        yield payload
    elif is_dataclass(payload) and not isinstance(payload, type):
        yield from _held([getattr(payload, each.name) for each in fields(payload)])
    elif isinstance(payload, Mapping):
        yield from _held(list(payload.values()))
    elif isinstance(payload, tuple | list):
        for each in payload:
            yield from _held(each)


def _within(sizes: Sizes, workload: Workload, run: DenoiseRun, network: str) -> Iterator[TensorPlan]:
    """q, k, v of the video as the attention kernel gets them, where the scheme puts parts of it into the batch."""
    grid = grid_of(sizes, workload)
    names = {grid.height * grid.width: "places", grid.frames: "frames"}
    for rows, heads, length, width in dict.fromkeys(each for each in run.attended if len(each) == 4):
        if rows > 1 and rows * length == grid.tokens:
            within = names.get(rows, f"{rows} parts")
            yield TensorPlan(name=f"q, k, v within {within}", shape=(rows, length, heads, width), dtype=network)
