"""The encoders of pictures and films, loaded when a conditioner asks for them."""

from __future__ import annotations

from functools import cached_property

import torch

from kinoform.models.codec import Codec
from kinoform.models.vision import VisionEncoder
from kinoform.weights.parts import Parts


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
        return self._parts.image_encoder(self._dtype, self.device)
