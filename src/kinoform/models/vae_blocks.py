"""Parts of the causal video autoencoder. Each takes what it remembers and returns what it will need.

`past` is None before the first frame. Layers without a memory return (). Running a film in chunks gives
what running it whole gives, for every legal chunking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

Video = Float[Tensor, "b c t h w"]
Changed = Float[Tensor, "b _ _ _ _"]
Past = Any
NORM_FLOOR = 1e-12


class Layer(nn.Module):
    """A part with a memory: `forward(x, past) -> (y, past)`."""

    def forward(self, x: Video, past: Past) -> tuple[Changed, Past]:
        raise NotImplementedError


def run(layers: Iterable[nn.Module], x: Tensor, past: Past) -> tuple[Tensor, Past]:
    """Layers one after the other, each with its own memory."""
    layers = list(layers)
    kept = []
    for layer, own in zip(layers, past or [None] * len(layers), strict=True):
        x, own = layer(x, own)
        kept.append(own)
    return x, tuple(kept)


class ChannelNorm(nn.Module):
    """x / max(|x|, 1e-12) * sqrt(C) * gamma, the length taken over channels at each position.

    Not the usual RMS norm: a floor instead of an epsilon, as the official code has it.
    """

    def __init__(self, channels: int, axes: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * axes))

    def forward(self, x: Tensor) -> Tensor:
        # The same as F.normalize, whose norm over channels that lie apart in memory is eight times slower.
        length = x.square().sum(1, keepdim=True).clamp_min(NORM_FLOOR**2).sqrt()
        return x / length * (self.gamma * len(self.gamma) ** 0.5)


class CausalConv3d(nn.Conv3d):
    """A 3x3x3 convolution that sees no later frame: two frames in front (zeros at first), none behind."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=(0, 1, 1))

    def forward(self, x: Video, past: Past) -> tuple[Changed, Past]:  # type: ignore[override]
        x = torch.cat([_blank(x, 2) if past is None else past, x], dim=2)
        return super().forward(x), last_frames(x, 2)


def _blank(x: Video, frames: int) -> Changed:
    return x.new_zeros(*x.shape[:2], frames, *x.shape[3:]).contiguous(memory_format=layout_of(x))


def layout_of(x: Float[Tensor, "_ _ _ _ _"]) -> torch.memory_format:
    """Whether channels lie innermost in memory, or apart."""
    last = torch.channels_last_3d
    return last if x.is_contiguous(memory_format=last) else torch.contiguous_format


def last_frames(x: Video, frames: int) -> Changed:
    """A copy: a view would keep the whole chunk in memory, in every layer, until the next one."""
    return x[:, :, -frames:].clone()


class ResidualBlock(Layer):
    """norm, SiLU, convolution, twice; plus the input, through a 1x1x1 convolution where widths differ."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(inputs, 3), ChannelNorm(outputs, 3)
        self.conv1, self.conv2 = CausalConv3d(inputs, outputs), CausalConv3d(outputs, outputs)
        self.shortcut = nn.Conv3d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Video, past: Past) -> tuple[Changed, Past]:
        first, second = past or (None, None)
        y, first = self.conv1(F.silu(self.norm1(x), inplace=True), first)
        y, second = self.conv2(F.silu(self.norm2(y), inplace=True), second)
        return y + (x if self.shortcut is None else self.shortcut(x)), (first, second)


class FrameAttention(Layer):
    """One head over the positions of each frame, added to the input; no mixing in time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, 2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Video, past: Past) -> tuple[Changed, Past]:
        frames = rearrange(x, "b c t h w -> (b t) c h w")
        rows = rearrange(self.to_qkv(self.norm(frames)), "n (three c) h w -> three n 1 (h w) c", three=3)
        seen = F.scaled_dot_product_attention(*rows.unbind(0))
        seen = self.proj(rearrange(seen, "n 1 (h w) c -> n c h w", h=x.shape[3]))
        return x + rearrange(seen, "(b t) c h w -> b c t h w", b=len(x)), ()


def _each_frame(layer: Callable[[Tensor], Tensor], x: Video) -> Changed:
    return rearrange(layer(rearrange(x, "b c t h w -> (b t) c h w")), "(b t) c h w -> b c t h w", b=len(x))


class Downsample(Layer):
    """Half the height and width: zeros at the right and bottom edge, a 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resample = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Video, past: Past) -> tuple[Changed, Past]:
        return _each_frame(self.resample, F.pad(x, (0, 1, 0, 1))), ()


class DownsampleTime(Downsample):
    """Space first, then half the frames: the first passes as it is, then windows 0-1-2, 2-3-4, ..."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, x: Video, past: Past) -> tuple[Changed, Past]:
        x, _ = super().forward(x, None)
        window = x if past is None else torch.cat([past, x], dim=2)
        found = [x[:, :, :1]] if past is None else []
        if window.shape[2] > 1:
            found.append(self.time_conv(window))
        return torch.cat(found, dim=2), last_frames(x, 1)


class Upsample(Layer):
    """Twice the height and width by repetition, then a 3x3 convolution to half the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resample = nn.Conv2d(channels, channels // 2, 3, padding=1)

    def forward(self, x: Video, past: Past) -> tuple[Changed, Past]:
        return _each_frame(self._double, x), ()

    def _double(self, frames: Float[Tensor, "n c h w"]) -> Tensor:
        return self.resample(F.interpolate(frames, scale_factor=2.0, mode="nearest-exact"))


class UpsampleTime(Upsample):
    """Twice the frames after the first, then space. The first frame is neither doubled nor seen by the rest."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.time_conv = nn.Conv3d(channels, 2 * channels, (3, 1, 1))

    def forward(self, x: Video, past: Past) -> tuple[Changed, Past]:
        found = []
        if past is None:
            found, past, x = [x[:, :, :1]], _blank(x, 2), x[:, :, 1:]
        window = torch.cat([past, x], dim=2)
        if x.shape[2]:
            pairs = self.time_conv(window)
            doubled = rearrange(pairs, "b (two c) t h w -> b c (t two) h w", two=2)
            found.append(doubled.contiguous(memory_format=layout_of(pairs)))
        y, _ = super().forward(torch.cat(found, dim=2), None)
        return y, last_frames(window, 2)
