"""The encoders of images and videos, loaded when a conditioner asks for them."""

from __future__ import annotations

from functools import cached_property

import torch

from kinoform.loading.parts import Parts
from kinoform.models.codec import Codec
from kinoform.models.vision import VisionEncoder


def image_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """float16 where the transformer computes in bfloat16 on an accelerator: CLIP was trained so, and the official code
    runs it so, since bfloat16 is ten times further off. On a CPU, which multiplies slowly in float16, as it is.
    """
    return torch.float16 if dtype == torch.bfloat16 and device.type != "cpu" else dtype


class PartEncoders:
    """`conditions.ports.Encoders` from the parts of a model: each is loaded once, and lives as long as this."""

    def __init__(self, parts: Parts, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self._parts, self._dtype = device, parts, dtype

    def codec(self) -> Codec:
        return self._codec

    def image(self) -> VisionEncoder:
        return self._image

    @cached_property
    def _codec(self) -> Codec:
        return self._parts.codec(self.device)

    @cached_property
    def _image(self) -> VisionEncoder:
        return self._parts.image_encoder(image_dtype(self._dtype, self.device), self.device)
