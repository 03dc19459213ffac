"""The CLIP vision tower that reads images for image-to-video models: all patches, one block before the last.

Source: CLIP (Radford et al., 2021) as OpenCLIP's ViT-H/14 with XLM-RoBERTa, of which the official Wan 2.1 code
takes the visual half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.linear import Linear, entering
from kinoform.ops.attention import attend
from kinoform.ops.norm import layer_norm

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of red, green and blue in 0..1, over the images that CLIP was trained with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionSpec:
    """Sizes of an image encoder; the defaults are ViT-H/14. `layers` counts the last block, which is never built.

    Raises UsageError when the patch does not divide the image, or the heads the width.
    """

    image: int = 224
    patch: int = 14
    dim: int = 1280
    heads: int = 16
    layers: int = 32
    dim_ffn: int = 5120
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.image % self.patch:
            raise UsageError(
                f"patches of {self.patch} do not divide images of {self.image}; change either",
                code="spec_not_divisible",
            )
        if self.dim % self.heads:
            raise UsageError(
                f"dim={self.dim} is not a multiple of heads={self.heads}; change either", code="spec_not_divisible"
            )

    @property
    def tokens(self) -> int:
        """Features of one image: one of the whole and one of each patch, 257 in ViT-H/14."""
        return 1 + (self.image // self.patch) ** 2

    def build(self) -> VisionEncoder:
        return VisionEncoder(self)


class VisionEncoder(nn.Module):
    """Encoder of an image to features. The last block, the norm and the projection after it are never used."""

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        self.spec = spec
        self.class_embedding = nn.Parameter(torch.zeros(spec.dim))
        self.positions = nn.Parameter(torch.zeros(spec.tokens, spec.dim))
        self.patch_embedding = nn.Parameter(torch.zeros(spec.dim, 3, spec.patch, spec.patch))
        self.norm_in = nn.LayerNorm(spec.dim, eps=spec.eps)
        self.blocks = nn.ModuleList(VisionBlock(spec) for _ in range(spec.layers - 1))

    def forward(self, pixels: Float[Tensor, "b 3 image image"]) -> Float[Tensor, "b n d"]:
        """Return the features of normalised pixels (see `preprocess`), the whole image's first; sums are float32."""
        patches = rearrange(
            pixels, "b c (h p) (w q) -> b (h w) (c p q)", p=self.spec.patch, q=self.spec.patch
        ).to(self.patch_embedding.dtype)  # fmt: skip
        x = patches @ self.patch_embedding.flatten(1).T
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1).to(x), x], dim=1) + self.positions
        x = layer_norm(x, self.spec.eps, self.norm_in.weight, self.norm_in.bias)
        for block in self.blocks:
            x = block(x)
        return x


@runtime_checkable
class BlockSizes(Protocol):
    """Sizes in the spec of such blocks."""

    @property
    def dim(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def dim_ffn(self) -> int: ...
    @property
    def eps(self) -> float: ...


class VisionBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); GELU is the exact one."""

    def __init__(self, spec: BlockSizes) -> None:
        super().__init__()
        self.heads, self.eps = spec.heads, spec.eps
        self.norm1, self.norm2 = (nn.LayerNorm(spec.dim, eps=spec.eps) for _ in range(2))
        self.q, self.k, self.v, self.o = (Linear(spec.dim, spec.dim) for _ in range(4))
        self.mlp = nn.Sequential(Linear(spec.dim, spec.dim_ffn), nn.GELU(), Linear(spec.dim_ffn, spec.dim))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        normed = entering(layer_norm(x, self.eps, self.norm1.weight, self.norm1.bias), self.q, self.k, self.v)
        q, k, v = (
            rearrange(layer(normed), "b n (heads k) -> b n heads k", heads=self.heads)
            for layer in (self.q, self.k, self.v)
        )
        x = x + self.o(rearrange(attend(q, k, v), "b n heads k -> b n (heads k)"))
        return x + self.mlp(layer_norm(x, self.eps, self.norm2.weight, self.norm2.bias))


def preprocess(pixels: Float[Tensor, "b 3 height width"], size: int) -> Float[Tensor, "b 3 size size"]:
    """Pixels in [-1, 1] as the tower reads them: stretched to a square, then normalised colour by colour.

    Bicubic, without antialiasing and without regard to the aspect, as the official code does and diffusers
    does not.
    """
    square = F.interpolate(pixels.float(), size=(size, size), mode="bicubic", align_corners=False)
    mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (MEAN, STD))
    return (square * 0.5 + 0.5 - mean) / std


@torch.no_grad()
def image_features(encoder: VisionEncoder, pixels: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b n d"]:
    """Features of each image, RGB in [-1, 1] of any size."""
    return encoder(preprocess(pixels, encoder.spec.image))
