"""The causal video autoencoder of Wan 2.1 (16 channels, stride 4x8x8), as a streaming codec.

Source: the official Wan2.1 VAE. The feature cache of the official code is a value here:
`latents, history = encode(chunk, history)` and `frames, history = decode(chunk, history)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.shortcut import LinearShortcut
from kinoform.models.vae_blocks import (
    CausalConv3d,
    Changed,
    ChannelNorm,
    Downsample,
    DownsampleTime,
    Frames,
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

WAN21_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
WAN21_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class VAESpec:
    """Sizes of the autoencoder; the defaults are Wan 2.1's.

    `multipliers` times `dim` are the widths of the levels, each but the last halving height and width;
    `time_downsample` says which of those also halve time. `mean` and `std` normalise the latents (empty:
    not at all). Helps for small models, in no released one: `shortcut` adds a linear codec beside the network,
    `linear_encoder` leaves the encoder to that alone, so that there is no encoder network to train or run.
    """

    dim: int = 96
    channels: int = 16
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    residual_blocks: int = 2
    time_downsample: tuple[bool, ...] = (False, True, True)
    mean: tuple[float, ...] = WAN21_MEAN
    std: tuple[float, ...] = WAN21_STD
    shortcut: bool = False
    linear_encoder: bool = False

    def __post_init__(self) -> None:
        if self.linear_encoder and not self.shortcut:
            raise UsageError(
                "linear_encoder needs shortcut: without either there is no encoder", code="spec_inconsistent"
            )

    @property
    def stride(self) -> tuple[int, int, int]:
        side = 2 ** (len(self.multipliers) - 1)
        return 2 ** sum(self.time_downsample), side, side

    @property
    def weightless(self) -> bool:
        return False

    def build(self) -> VAE:
        return VAE(self)


class Encoder(nn.Module):
    """Pixels to 2 * channels features, before the last 1x1x1 convolution."""

    def __init__(self, spec: VAESpec) -> None:
        super().__init__()
        widths = [spec.dim * m for m in (1, *spec.multipliers)]
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            for block in range(spec.residual_blocks):
                layers.append(ResidualBlock(inputs if block == 0 else outputs, outputs))
            if level < len(spec.time_downsample):
                layers.append((DownsampleTime if spec.time_downsample[level] else Downsample)(outputs))
        self.conv_in = CausalConv3d(3, widths[0])
        self.downsamples = nn.ModuleList(layers)
        self.middle = middle(widths[-1])
        self.norm_out = ChannelNorm(widths[-1], 3)
        self.conv_out = CausalConv3d(widths[-1], 2 * spec.channels)

    def forward(self, x: Frames, past: Past) -> tuple[Changed, Past]:
        memory = Memory(past)
        x = self.conv_in(memory.padded(x.contiguous()))
        for layer in (*self.downsamples, *self.middle):
            x = layer(x, memory)
        x = self.conv_out(memory.padded(F.silu(self.norm_out(x), inplace=True)))
        return x, memory.kept()


class Decoder(nn.Module):
    """Latent features to pixels. Every upsampling halves the channels, so the next level starts at half."""

    def __init__(self, spec: VAESpec) -> None:
        super().__init__()
        widths = [spec.dim * m for m in (spec.multipliers[-1], *reversed(spec.multipliers))]
        layers: list[nn.Module] = []
        for level, (before, outputs) in enumerate(pairwise(widths)):
            inputs = before if level == 0 else before // 2
            for block in range(spec.residual_blocks + 1):
                layers.append(ResidualBlock(inputs if block == 0 else outputs, outputs))
            if level < len(spec.time_downsample):
                layers.append((UpsampleTime if spec.time_downsample[-1 - level] else Upsample)(outputs, outputs // 2))
        self.conv_in = CausalConv3d(spec.channels, widths[0])
        self.middle = middle(widths[0])
        self.upsamples = nn.ModuleList(layers)
        self.norm_out = ChannelNorm(widths[-1], 3)
        self.conv_out = CausalConv3d(widths[-1], 3)

    def forward(self, x: Frames, past: Past) -> tuple[Changed, Past]:
        memory = Memory(past)
        x = self.conv_in(memory.padded(x.contiguous()))
        for layer in (*self.middle, *self.upsamples):
            x = layer(x, memory)
        x = self.conv_out(memory.padded(F.silu(self.norm_out(x), inplace=True)))
        return x, memory.kept()


class History(NamedTuple):
    """Memories of one direction between chunks: of the network's layers, and of the shortcut."""

    network: Past = None
    shortcut: Tensor | None = None

    def given_up(self) -> History:
        """The same for one use alone, in which each layer's past is freed as its next is made."""
        return self if self.network is None else self._replace(network=list(self.network))


class VAE(nn.Module):
    """The codec. Weights and arithmetic are float32, as in the official code."""

    def __init__(self, spec: VAESpec) -> None:
        super().__init__()
        self.spec = spec
        network = not spec.linear_encoder
        self.encoder = Encoder(spec) if network else None
        self.moments = nn.Conv3d(2 * spec.channels, 2 * spec.channels, 1) if network else None
        self.decoder = Decoder(spec)
        self.expand = nn.Conv3d(spec.channels, spec.channels, 1)
        self.shortcut = LinearShortcut(spec.channels, spec.stride) if spec.shortcut else None

    @property
    def channels(self) -> int:
        return self.spec.channels

    @property
    def stride(self) -> tuple[int, int, int]:
        return self.spec.stride

    def encode(self, pixels: Frames, history: History | None = None) -> tuple[Changed, History]:
        """Normalised mean latents (no sampling) of the next frames; pixels [b, 3, t, height, width] in [-1, 1].

        Raises UsageError unless t is 1 + 4n in the first chunk and 4n in the later ones (for stride 4).
        """
        check_frames(pixels.shape[2], self.stride[0], first=history is None)
        past = history or History()
        latents, network = torch.zeros((), device=pixels.device), None
        if self.encoder is not None and self.moments is not None:
            features, network = self.encoder(pixels, past.network)
            latents = self.moments(features)[:, : self.channels].contiguous()
        if self.shortcut is not None:
            latents = latents + self.shortcut.encode(pixels, first=history is None)
        return self.normalise(latents), History(network)

    def decode(self, latents: Frames, history: History | None = None) -> tuple[Changed, History]:
        """The next frames, [b, 3, t, height, width] around [-1, 1], not clamped."""
        latents = self.denormalise(latents.float())
        past = history or History()
        pixels, network = self.decoder(self.expand(latents), past.network)
        pixels = pixels.contiguous()
        if self.shortcut is None:
            return pixels, History(network)
        linear, shortcut = self.shortcut.decode(latents, past.shortcut)
        return pixels + linear, History(network, shortcut)

    def normalise(self, latents: Frames) -> Frames:
        """(latents - mean) / std, per channel."""
        return normalised(latents, self.spec.mean, self.spec.std)

    def denormalise(self, latents: Frames) -> Frames:
        """latents * std + mean, per channel."""
        return denormalised(latents, self.spec.mean, self.spec.std)
