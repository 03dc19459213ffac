"""Encoders that are already in memory, and images for them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from kinoform.errors import WeightsError
from kinoform.media.types import InputImage, Origin
from kinoform.models.codec import Codec, IdentityCodec
from kinoform.models.vae import VAESpec
from kinoform.models.vision import VisionEncoder, VisionSpec
from tests.models.recorded import spread

VISION = VisionSpec(image=12, patch=4, dim=8, heads=2, layers=3, dim_ffn=12)
CODECS = {
    "1": VAESpec(dim=4, channels=3, multipliers=(1, 1), residual_blocks=1, time_downsample=(False,), mean=(), std=()),
    "2": VAESpec(dim=4, channels=5, multipliers=(1, 1), residual_blocks=1, time_downsample=(True,), mean=(), std=()),
    "4": VAESpec(dim=4),
}
"""By how many frames a latent frame holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InHand:
    """`Encoders` that load nothing; pixels are their own latents unless a codec is given."""

    made_codec: Codec = field(default_factory=IdentityCodec)
    made_image: VisionEncoder | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def codec(self) -> Codec:
        return self.made_codec

    def image(self) -> VisionEncoder:
        if self.made_image is None:
            raise WeightsError("this model has no image encoder")
        return self.made_image


def random_module(spec: Any, seed: int = 1) -> Any:
    """Of a spec: every weight random."""
    module = spec.build().requires_grad_(False).eval()
    spread(module, seed)
    return module


def image(seed: int, height: int, width: int) -> InputImage:
    """White noise, from a file named after the seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return InputImage(pixels=pixels, origin=Origin(file=f"{seed}.png", sha256=f"{seed:064x}"))
