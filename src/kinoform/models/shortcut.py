"""A linear codec beside the autoencoder's network: a help for small models that no released one has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.models.vae_blocks import Changed, Frames, last_frames
from kinoform.ops.patch import Patch

REACH = (2, 3, 3)
"""Latents that a decoded patch depends on: its own and the one before in time, with their neighbours."""


class LinearShortcut(nn.Module):
    """latents = A (patch - centre) per whole-depth patch; pixels = a causal convolution of latents.

    Fitted in closed form (`kinoform.mini.training.autoencoder_stage.fit_shortcut`), it gives a small autoencoder a good
    start on little compute. A patch is (time, height, width) pixels; the first frame is coded as a patch
    that stands still, so that a still image has the same latents at every place in time.
    """

    def __init__(self, channels: int, stride: Patch) -> None:
        super().__init__()
        self.stride = stride
        width = 3 * stride[0] * stride[1] * stride[2]
        self.analysis = nn.Parameter(torch.zeros(channels, width))
        self.centre = nn.Parameter(torch.zeros(width))
        self.synthesis = nn.Parameter(torch.zeros(width, channels, *REACH))
        self.offset = nn.Parameter(torch.zeros(width))

    def encode(self, pixels: Frames, first: bool) -> Changed:
        """Latents [b, c, f, h, w] of the next frames: 1 + n * time of them at first, then n * time."""
        rows = video_patches(pixels, self.stride) if first else whole_patches(pixels, self.stride)
        return rearrange((rows - self.centre) @ self.analysis.T, "b t h w c -> b c t h w")

    def decode(self, latents: Frames, past: Tensor | None) -> tuple[Changed, Tensor]:
        """Pixels of the next latent frames; `past` is the latent frame before them, None at the beginning."""
        before = torch.zeros_like(latents[:, :, :1]) if past is None else past
        seen = torch.cat([before, latents], dim=2)
        rows = F.conv3d(seen, self.synthesis, self.offset, padding=(0, 1, 1))
        time, height, width = self.stride
        pixels = rearrange(
            rows, "b (c pt ph pw) t h w -> b c (t pt) (h ph) (w pw)", pt=time, ph=height, pw=width
        )  # fmt: skip
        if past is None:
            pixels = torch.cat([pixels[:, :, :time].mean(2, keepdim=True), pixels[:, :, time:]], dim=2)
        return pixels, last_frames(seen, 1)


def whole_patches(pixels: Frames, stride: Patch) -> Float[Tensor, "b _ _ _ p"]:
    """Patches of pixels as rows [b, t, h, w, 3 * time * height * width]."""
    time, height, width = stride
    return rearrange(
        pixels, "b c (t pt) (h ph) (w pw) -> b t h w (c pt ph pw)", pt=time, ph=height, pw=width
    )  # fmt: skip


def video_patches(pixels: Frames, stride: Patch) -> Float[Tensor, "b _ _ _ p"]:
    """The patches of a video from its beginning: its first frame, repeated, fills a patch of its own."""
    still = pixels[:, :, :1].expand(-1, -1, stride[0] - 1, -1, -1)
    return whole_patches(torch.cat([still, pixels], dim=2), stride)
