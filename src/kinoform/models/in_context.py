"""Reference images as guests: tokens that the video's self-attention sees and that are never denoised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.dit import PatchEmbedding
from kinoform.models.protocols import Guests, Stream, TransformerSizes
from kinoform.ops.patch import grid_of
from kinoform.ops.rope import grid_positions
from kinoform.types import Grid

CLEAN_TIMESTEP = 0.0

InputImage: TypeAlias = Float[Tensor, "_ c 1 _ _"]
"""Latents of one image, of a size of its own in whole patches; or of one for each video of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceGuests:
    """Latents of any number of images as tokens of self-attention, at noise level 0, before the video in time.

    The first image stands `gap` latent frames before the video's first frame, each further one a frame
    earlier; rows and columns count from 0. So no place is taken twice, and no place depends on the length of
    the video. The patch embedding is the branch's own and begins as the model's (`copies`). Raises UsageError
    for a gap that would put an image into the video.
    """

    gap: int = 8
    name: str = "references"

    def __post_init__(self) -> None:
        if self.gap < 1:
            raise UsageError(
                f"references stand before the video by a gap of 1 or more latent frames, not {self.gap}",
                code="value_out_of_range",
            )

    @property
    def copies(self) -> Mapping[str, str]:
        """Own parameter -> the model's parameter whose values it begins with."""
        return {"patch_embedding.weight": "patch_embedding.weight", "patch_embedding.bias": "patch_embedding.bias"}

    def build(self, spec: TransformerSizes) -> nn.Module:
        return ReferenceBranch(self, spec)


class ReferenceBranch(nn.Module):
    """Branch whose payload are the images in the order of their places."""

    def __init__(self, own: ReferenceGuests, spec: TransformerSizes) -> None:
        super().__init__()
        self.gap = own.gap
        self.patch_embedding = PatchEmbedding(spec.out_channels, spec.dim, spec.patch)

    def prepare(self, payload: Sequence[InputImage], context: Mapping[str, Tensor], grid: Grid) -> Guests:
        weight, bias, patch = self.patch_embedding.weight, self.patch_embedding.bias, self.patch_embedding.patch
        tokens = [self.patch_embedding.part(image.to(weight.device), 0) + bias for image in payload]
        places = [
            grid_positions(grid_of(image, patch)) - torch.tensor([self.gap + number, 0, 0])
            for number, image in enumerate(payload)
        ]
        return Guests(tokens=torch.cat(tokens, dim=1), positions=torch.cat(places), timestep=CLEAN_TIMESTEP)

    def open(self, stream: Stream, payload: Guests) -> tuple[Guests, None]:
        return payload._replace(tokens=payload.tokens.expand(len(stream.tokens), -1, -1)), None

    def after_block(self, layer: int, stream: Stream, state: None) -> tuple[Stream, None]:
        return stream, state

    def close(self, stream: Stream, state: None) -> Stream:
        return stream
