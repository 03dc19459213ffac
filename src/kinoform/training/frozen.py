"""Parts of a model that are trained before the rest of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.errors import WeightsError
from kinoform.models.codec import Codec
from kinoform.models.dit import DiT
from kinoform.models.text import TextEncoder, encode
from kinoform.models.tokenizer import Tokenizer
from kinoform.models.vision import VisionEncoder
from kinoform.training.stage import RunOptions


@dataclass(frozen=True, kw_only=True)
class FrozenParts:
    """The codec, the tokenizer and the text encoder, all on the CPU."""

    codec: Codec
    tokenizer: Tokenizer
    text_encoder: TextEncoder

    @torch.no_grad()
    def rows(self, prompts: list[str]) -> Float[Tensor, "b n w"]:
        """Text features of prompts, exactly as generation makes them."""
        return encode(self.text_encoder, self.tokenizer(prompts, self.text_encoder.spec.length))


class CodecOnly:
    """`conditions.protocols.Encoders` on the CPU, around a codec; it raises WeightsError for an image encoder."""

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


@dataclass(frozen=True, kw_only=True)
class TrainedEncoder:
    """Weights of the embedding of a context source, which was trained by itself; and how far its training went.

    A `frozen` one stays as it is while the rest of the model learns.
    """

    stream: str
    weights: dict[str, Tensor]
    frozen: bool
    report: dict[str, object]

    def load_into(self, model: DiT) -> None:
        """Give these weights to the stream of a model that is about to be trained."""
        embedding = model.context[self.stream]
        embedding.load_state_dict(self.weights)
        embedding.requires_grad_(not self.frozen)


@runtime_checkable
class EncoderPlan(Protocol):
    """A training of the embedding of a context source by itself, before the model that reads it."""

    def train(self, base: DiT, parts: FrozenParts, folder: Path, options: RunOptions) -> TrainedEncoder:
        """Train below `folder`, or go on there; `base` is the finished model. Raises what `train` raises."""
        ...
