"""Parts of the causal video autoencoder. What they remember of earlier frames stands in one `Memory`.

Running a video in chunks gives what running it whole gives, for every legal chunking.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.ops.attention import attend

Frames = Float[Tensor, "b c t h w"]
Changed = Float[Tensor, "b _ _ _ _"]
Past: TypeAlias = "tuple[Tensor, ...] | list[Tensor] | None"
"""Frames that layers remember, in the order in which these run; a list is given up as it is read. None at first."""
NORM_FLOOR = 1e-12


class Memory:
    """Frames that layers remember between chunks: each takes its past, in the order in which they run, and leaves more.

    From a list the past is taken out, so that its memory is free before the layer computes; a tuple stays as it is.
    """

    def __init__(self, past: Past) -> None:
        self.first = past is None
        self._past = past if isinstance(past, list) else list(past or ())
        self._past.reverse()
        self._next: list[Tensor] = []

    def behind(self, x: Frames, frames: int) -> Changed:
        """x with its layer's past in front; the last `frames` of the two are what the layer remembers now."""
        found = x if self.first else torch.cat([self._past.pop(), x], dim=2)
        self._next.append(last_frames(found, frames))
        return found

    def padded(self, x: Frames) -> Changed:
        """x with two frames in front: its layer's past, zeros at first."""
        return self.behind(torch.cat([_blank(x, 2), x], dim=2) if self.first else x, 2)

    def kept(self) -> tuple[Tensor, ...]:
        """Return all that is remembered now. All that was remembered before must have been taken."""
        assert not self._past, "every layer takes its past"
        return tuple(self._next)


class Layer(nn.Module):
    """A part that may look back: `forward(x, memory) -> y`."""

    def forward(self, x: Frames, memory: Memory) -> Changed:
        raise NotImplementedError


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
    """A 3x3x3 convolution of frames with two in front, as `Memory.padded` puts them there: it sees no later frame."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=(0, 1, 1))  # pyright: ignore[reportUnknownMemberType]


def _blank(x: Frames, frames: int) -> Changed:
    return x.new_zeros(*x.shape[:2], frames, *x.shape[3:])


def last_frames(x: Frames, frames: int) -> Changed:
    """A copy: a view would keep the whole chunk in memory, in every layer, until the next one."""
    return x[:, :, -frames:].clone()


class ResidualBlock(Layer):
    """norm, SiLU, convolution, twice; plus the input, through a 1x1x1 convolution where widths differ."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(inputs, 3), ChannelNorm(outputs, 3)
        self.conv1, self.conv2 = CausalConv3d(inputs, outputs), CausalConv3d(outputs, outputs)
        self.shortcut = nn.Conv3d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Frames, memory: Memory) -> Changed:
        y = self.conv1(memory.padded(F.silu(self.norm1(x), inplace=True)))
        y = F.silu(self.norm2(y), inplace=True)  # line by line, so that what is read can be freed
        y = memory.padded(y)
        y = self.conv2(y)
        return y + (x if self.shortcut is None else self.shortcut(x))


class FrameAttention(Layer):
    """One head over the positions of each frame, added to the input; no mixing in time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, 2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Frames, memory: Memory) -> Changed:
        frames = rearrange(x, "b c t h w -> (b t) c h w")
        rows = rearrange(self.to_qkv(self.norm(frames)), "n (three c) h w -> three n (h w) 1 c", three=3)
        seen = self.proj(rearrange(attend(*rows.unbind(0)), "n (h w) 1 c -> n c h w", h=x.shape[3]))
        return x + rearrange(seen, "(b t) c h w -> b c t h w", b=len(x))


def _each_frame(layer: Callable[[Tensor], Tensor], x: Frames) -> Changed:
    return rearrange(layer(rearrange(x, "b c t h w -> (b t) c h w")), "(b t) c h w -> b c t h w", b=len(x))


class Downsample(Layer):
    """Half the height and width: zeros at the right and bottom edge, a 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resample = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Frames, memory: Memory) -> Changed:
        return _each_frame(self.resample, F.pad(x, (0, 1, 0, 1)))


class DownsampleTime(Downsample):
    """Space first, then half the frames: the first passes as it is, then windows 0-1-2, 2-3-4, ..."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, x: Frames, memory: Memory) -> Changed:
        window = memory.behind(super().forward(x, memory), 1)
        found = [window[:, :, :1]] if memory.first else []
        if window.shape[2] > 1:
            found.append(self.time_conv(window))
        return torch.cat(found, dim=2)


class Upsample(Layer):
    """Twice the height and width by repetition, then a 3x3 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.resample = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Frames, memory: Memory) -> Changed:
        return _each_frame(self._double, x)

    def _double(self, frames: Float[Tensor, "n c h w"]) -> Tensor:
        return self.resample(F.interpolate(frames, scale_factor=2.0, mode="nearest-exact"))


class UpsampleTime(Upsample):
    """Twice the frames after the first, then space. The first frame is neither doubled nor seen by the rest."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.time_conv = nn.Conv3d(inputs, 2 * inputs, (3, 1, 1))

    def forward(self, x: Frames, memory: Memory) -> Changed:
        found, later = [], x
        if memory.first:
            found, later = [x[:, :, :1]], x[:, :, 1:]
        window = memory.padded(later)
        if later.shape[2]:
            pairs = self.time_conv(window)
            doubled = rearrange(pairs, "b (two c) t h w -> b c (t two) h w", two=2)
            found.append(doubled.contiguous())
        return super().forward(torch.cat(found, dim=2), memory)


def middle(width: int) -> nn.ModuleList:
    """The layers between the levels: a residual block, attention over each frame, a residual block."""
    return nn.ModuleList([ResidualBlock(width, width), FrameAttention(width), ResidualBlock(width, width)])


def check_frames(frames: int, time: int, *, first: bool) -> None:
    """Raise UsageError unless a chunk has 1 + n * `time` frames, where it is the first, or n * `time` frames."""
    if (frames - first) % time or not frames:
        rule = f"1 + {time}n" if first else f"{time}n"
        raise UsageError(
            f"a chunk of {frames} frames cannot be encoded here; it takes {rule}", code="frames_not_multiple"
        )


def normalised(latents: Frames, mean: tuple[float, ...], std: tuple[float, ...]) -> Frames:
    """(latents - mean) / std, per channel; with an empty mean the latents themselves."""
    return (latents - _channel(latents, mean)) / _channel(latents, std) if mean else latents


def denormalised(latents: Frames, mean: tuple[float, ...], std: tuple[float, ...]) -> Frames:
    """latents * std + mean, per channel; with an empty mean the latents themselves."""
    return latents * _channel(latents, std) + _channel(latents, mean) if mean else latents


def _channel(like: Tensor, values: tuple[float, ...]) -> Float[Tensor, "1 c 1 1 1"]:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[None, :, None, None, None]
