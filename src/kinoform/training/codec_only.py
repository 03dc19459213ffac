"""The encoders of a training: the codec that is there already."""

from __future__ import annotations

import torch

from kinoform.errors import WeightsError
from kinoform.models.codec import Codec
from kinoform.models.vision import VisionEncoder


class CodecAlone:
    """`conditions.ports.Encoders` on the CPU, around a codec; it raises WeightsError for an image encoder."""

    device = torch.device("cpu")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def codec(self) -> Codec:
        return self._codec

    def image(self) -> VisionEncoder:
        raise WeightsError(
            "models are trained here without an image encoder; choose conditioners that need none",
            code="part_missing",
        )
