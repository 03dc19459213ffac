"""In-context tokens: latents beside the video's in self-attention, which are never denoised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.patch_embedding import PatchEmbedding
from kinoform.models.protocols import InContextTokens, Stream, TransformerSizes
from kinoform.ops.patch import grid_of
from kinoform.ops.rope import grid_positions
from kinoform.types import Grid

ImageLatents: TypeAlias = Float[Tensor, "_ c 1 _ _"]
"""Latents of one image, of a size of its own in whole patches; or of one for each video of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InContextImages:
    """Latents of any number of images as tokens of self-attention, at noise level 0, before the video in time.

    The first image stands `gap` latent frames before the video's first frame, each further one a frame
    earlier; rows and columns count from 0. So no position is taken twice, and none depends on the length of
    the video. The patch embedding is the branch's own and begins as the model's (`copies`). Raises UsageError
    for a gap that would put an image into the video.
    """

    gap: int = 8
    name: str = "references"

    def __post_init__(self) -> None:
        if self.gap < 1:
            raise UsageError(
                f"in-context images stand before the video by a gap of 1 or more latent frames, not {self.gap}",
                code="value_out_of_range",
            )

    @property
    def copies(self) -> Mapping[str, str]:
        """Own parameter -> the model's parameter whose values it begins with."""
        return {"patch_embedding.weight": "patch_embedding.weight", "patch_embedding.bias": "patch_embedding.bias"}

    def build(self, spec: TransformerSizes) -> nn.Module:
        return InContextBranch(self, spec)


class InContextBranch(nn.Module):
    """Branch whose payload are the images in the order of their positions."""

    def __init__(self, own: InContextImages, spec: TransformerSizes) -> None:
        super().__init__()
        self.gap = own.gap
        self.patch_embedding = PatchEmbedding(spec.out_channels, spec.dim, spec.patch)

    def prepare(self, payload: Sequence[ImageLatents], context: Mapping[str, Tensor], grid: Grid) -> InContextTokens:
        weight, bias, patch = self.patch_embedding.weight, self.patch_embedding.bias, self.patch_embedding.patch
        tokens = [self.patch_embedding.part(latents.to(weight.device), 0) + bias for latents in payload]
        positions = [
            grid_positions(grid_of(latents, patch)) - torch.tensor([self.gap + index, 0, 0])
            for index, latents in enumerate(payload)
        ]
        return InContextTokens(tokens=torch.cat(tokens, dim=1), positions=torch.cat(positions), timestep=0.0)

    def open(self, stream: Stream, payload: InContextTokens) -> tuple[InContextTokens, None]:
        return payload._replace(tokens=payload.tokens.expand(len(stream.tokens), -1, -1)), None

    def after_block(self, layer: int, stream: Stream, state: None) -> tuple[Stream, None]:
        return stream, state

    def close(self, stream: Stream, state: None) -> Stream:
        return stream
