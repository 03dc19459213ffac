"""The causal video autoencoder of Wan 2.2's TI2V-5B (48 channels, stride 4x16x16), as a streaming codec.

Source: the official Wan2.2 VAE. Its blocks are those of Wan 2.1's; around each level goes a shortcut without weights,
and pixels enter and leave two by two.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from kinoform.models.shortcut import LinearShortcut
from kinoform.models.vae import History
from kinoform.models.vae_blocks import (
    CausalConv3d,
    Changed,
    ChannelNorm,
    Downsample,
    DownsampleTime,
    Frames,
    Layer,
    Memory,
    Past,
    ResidualBlock,
    Upsample,
    UpsampleTime,
    check_frames,
    denormalised,
    middle,
    normalised,
)

WAN22_MEAN = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)  # fmt: skip
WAN22_STD = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)  # fmt: skip

PIXELS = 2
"""Pixels along each side that enter as channels of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VAE22Spec:
    """Sizes of the autoencoder; the defaults are Wan 2.2's.

    `multipliers` times `dim`, or `decoder_dim`, are the widths of the levels, each but the last halving height and
    width; `time_downsample` says which of those also halve time. `mean` and `std` normalise the latents (empty: not
    at all). A help for small models, in no released one: with `linear` a linear codec encodes, without an encoder
    network, and its pixels are what the decoder's last level sharpens.
    """

    dim: int = 160
    decoder_dim: int = 256
    channels: int = 48
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    residual_blocks: int = 2
    time_downsample: tuple[bool, ...] = (False, True, True)
    mean: tuple[float, ...] = WAN22_MEAN
    std: tuple[float, ...] = WAN22_STD
    linear: bool = False

    @property
    def stride(self) -> tuple[int, int, int]:
        """Pixels of one latent in time, height and width."""
        side = PIXELS * 2 ** (len(self.multipliers) - 1)
        return 2 ** sum(self.time_downsample), side, side

    @property
    def weightless(self) -> bool:
        """False: this codec has weights."""
        return False

    def build(self) -> VAE22:
        """The codec with random weights."""
        return VAE22(self)


class DownLevel(Layer):
    """Residual blocks and a resampling, plus averages of the input over what these merge."""

    def __init__(self, inputs: int, outputs: int, blocks: int, resample: Downsample | None) -> None:
        super().__init__()
        widths = (inputs, *[outputs] * blocks)
        self.blocks = nn.ModuleList(ResidualBlock(*pair) for pair in pairwise(widths))
        self.resample = resample
        self.outputs = outputs
        self.factors = _factors(resample, DownsampleTime)

    def forward(self, x: Frames, memory: Memory) -> Changed:
        y = x
        for layer in (*self.blocks, *([] if self.resample is None else [self.resample])):
            y = layer(y, memory)
        return y.add_(averaged(x, self.outputs, *self.factors))


class UpLevel(Layer):
    """Residual blocks and a resampling, plus repetitions of the input; the last level has the blocks alone."""

    def __init__(self, inputs: int, outputs: int, blocks: int, resample: Upsample | None) -> None:
        super().__init__()
        widths = (inputs, *[outputs] * blocks)
        self.blocks = nn.ModuleList(ResidualBlock(*pair) for pair in pairwise(widths))
        self.resample = resample
        self.outputs = outputs
        self.factors = _factors(resample, UpsampleTime)

    def forward(self, x: Frames, memory: Memory) -> Changed:
        y = x
        for layer in self.blocks:
            y = layer(y, memory)
        if self.resample is None:
            return y
        return self.resample(y, memory).add_(repeated(x, self.outputs, *self.factors, first=memory.first))


def _factors(resample: Layer | None, in_time: type[Layer]) -> tuple[int, int]:
    """Return the factors by which a level changes the length in time, and along the sides."""
    return 2 if isinstance(resample, in_time) else 1, 1 if resample is None else 2


def averaged(x: Frames, channels: int, time: int, side: int) -> Changed:
    """x at 1 / `time` of the frames and 1 / `side` of height and width, in groups of channels that are averaged.

    Where the frames are no multiple of `time`, as in the first chunk, zeros stand in front of them.
    """
    x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % time, 0))
    groups = x.shape[1] * time * side * side // channels
    parts = rearrange(x, "b c (t ft) (h fh) (w fw) -> b (c ft fh fw) t h w", ft=time, fh=side, fw=side)
    return torch.mean(rearrange(parts, "b (c g) t h w -> b c g t h w", g=groups), dim=2)


def repeated(x: Frames, channels: int, time: int, side: int, *, first: bool) -> Changed:
    """x at `time` times the frames and `side` times height and width, each channel repeated as often as needed.

    In the `first` chunk the frames before the last repetition of the first are left out.
    """
    copies = channels * time * side * side // x.shape[1]
    x = x.repeat_interleave(copies, dim=1)
    x = rearrange(x, "b (c ft fh fw) t h w -> b c (t ft) (h fh) (w fw)", ft=time, fh=side, fw=side)
    return x[:, :, time - 1 :] if first else x


class Encoder22(nn.Module):
    """Pixels, two by two, to 2 * channels features, before the last 1x1x1 convolution."""

    def __init__(self, spec: VAE22Spec) -> None:
        super().__init__()
        widths = [spec.dim * m for m in (1, *spec.multipliers)]
        self.conv_in = CausalConv3d(3 * PIXELS**2, widths[0])
        self.levels = nn.ModuleList(
            DownLevel(inputs, outputs, spec.residual_blocks, _downsample(outputs, spec.time_downsample[level:]))
            for level, (inputs, outputs) in enumerate(pairwise(widths))
        )
        self.middle = middle(widths[-1])
        self.norm_out = ChannelNorm(widths[-1], 3)
        self.conv_out = CausalConv3d(widths[-1], 2 * spec.channels)

    def forward(self, pixels: Frames, past: Past) -> tuple[Changed, Past]:
        memory = Memory(past)
        x = self.conv_in(memory.padded(_merged(pixels)))
        for layer in (*self.levels, *self.middle):
            x = layer(x, memory)
        x = self.conv_out(memory.padded(F.silu(self.norm_out(x), inplace=True)))
        return x, memory.kept()


class Decoder22(nn.Module):
    """Latent features to pixels."""

    def __init__(self, spec: VAE22Spec) -> None:
        super().__init__()
        widths = [spec.decoder_dim * m for m in (spec.multipliers[-1], *reversed(spec.multipliers))]
        self.conv_in = CausalConv3d(spec.channels, widths[0])
        self.middle = middle(widths[0])
        self.levels = nn.ModuleList(
            UpLevel(inputs, outputs, spec.residual_blocks + 1, _upsample(outputs, spec.time_downsample[::-1][level:]))
            for level, (inputs, outputs) in enumerate(pairwise(widths))
        )
        self.norm_out = ChannelNorm(widths[-1], 3)
        self.conv_out = CausalConv3d(widths[-1], 3 * PIXELS**2)
        self.conv_linear = CausalConv3d(3 * PIXELS**2, widths[-2]) if spec.linear else None
        self.gate = nn.Parameter(torch.zeros(widths[-2], 1, 1, 1)) if spec.linear else None

    def forward(self, x: Frames, past: Past, linear: Changed | None = None) -> tuple[Changed, Past]:
        """Return the pixels of latent features; `linear` are those of a linear codec, to which they are added."""
        memory = Memory(past)
        x = self.conv_in(memory.padded(x.contiguous()))
        for layer in (*self.middle, *self.levels[:-1]):
            x = layer(x, memory)
        if self.conv_linear is not None and self.gate is not None and linear is not None:
            x = self.gate * x + self.conv_linear(memory.padded(_merged(linear)))
        x = self.levels[-1](x, memory)
        x = self.conv_out(memory.padded(F.silu(self.norm_out(x), inplace=True)))
        pixels = rearrange(x, "b (c r q) t h w -> b c t (h q) (w r)", q=PIXELS, r=PIXELS)
        return pixels if linear is None else pixels + linear, memory.kept()


def _merged(pixels: Frames) -> Changed:
    """Make four pixels one of four times the channels; along the width first, the official order."""
    return rearrange(pixels, "b c t (h q) (w r) -> b (c r q) t h w", q=PIXELS, r=PIXELS)


def _downsample(channels: int, in_time: tuple[bool, ...]) -> Downsample | None:
    """The resampling of a level; none behind the last one, for which `in_time` is empty."""
    return (DownsampleTime if in_time[0] else Downsample)(channels) if in_time else None


def _upsample(channels: int, in_time: tuple[bool, ...]) -> Upsample | None:
    return (UpsampleTime if in_time[0] else Upsample)(channels, channels) if in_time else None


class VAE22(nn.Module):
    """The codec. Weights and arithmetic are float32, as in the official code."""

    def __init__(self, spec: VAE22Spec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = None if spec.linear else Encoder22(spec)
        self.moments = None if spec.linear else nn.Conv3d(2 * spec.channels, 2 * spec.channels, 1)
        self.decoder = Decoder22(spec)
        self.expand = nn.Conv3d(spec.channels, spec.channels, 1)
        self.shortcut = LinearShortcut(spec.channels, spec.stride) if spec.linear else None

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return self.spec.channels

    @property
    def stride(self) -> tuple[int, int, int]:
        """Pixels of one latent in time, height and width."""
        return self.spec.stride

    def encode(self, pixels: Frames, history: History | None = None) -> tuple[Changed, History]:
        """Normalised mean latents (no sampling) of the next frames; pixels [b, 3, t, height, width] in [-1, 1].

        Raises UsageError unless t is 1 + 4n in the first chunk and 4n in the later ones (for stride 4).
        """
        check_frames(pixels.shape[2], self.stride[0], first=history is None)
        network = None
        if self.encoder is not None and self.moments is not None:
            features, network = self.encoder(pixels, None if history is None else history.network)
            latents = self.moments(features)[:, : self.channels].contiguous()
        else:
            assert self.shortcut is not None, "a codec without an encoder network is linear"
            latents = self.shortcut.encode(pixels, first=history is None)
        return normalised(latents, self.spec.mean, self.spec.std), History(network)

    def decode(self, latents: Frames, history: History | None = None) -> tuple[Changed, History]:
        """The next frames, [b, 3, t, height, width] around [-1, 1], not clamped."""
        latents = denormalised(latents.float(), self.spec.mean, self.spec.std)
        past = history or History()
        linear, shortcut = None, None
        if self.shortcut is not None:
            linear, shortcut = self.shortcut.decode(latents, past.shortcut)
        pixels, network = self.decoder(self.expand(latents), past.network, linear)
        return pixels.contiguous(), History(network, shortcut)
