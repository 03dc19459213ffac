"""Examples from a dataset: its clips, encoded once by the encoders of the model, in the order of their batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.conditions.protocols import Conditioner, Encoders, prefixed, together
from kinoform.datasets.clips import Clip
from kinoform.datasets.order import BatchOrder
from kinoform.datasets.read import read_sample
from kinoform.loading.parts import Parts
from kinoform.media.decoder_client import MediaDecoder
from kinoform.models.codec import to_signed
from kinoform.models.text import encode
from kinoform.ops.memory import release_memory
from kinoform.training.cache.examples import EncodedClip
from kinoform.training.devices import CPU, moved
from kinoform.training.dropout import InputDropout
from kinoform.training.examples import Example


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipEncoder:
    """The one place where a clip becomes tensors: `latents`, and what its conditioners make of its inputs.

    `known` are the frames of a clip that the model is given as images, where the item has none of its own. A variant
    of a clip, which lost inputs, has no latents: those of the clip are the same.
    """

    conditioners: tuple[Conditioner, ...]
    encoders: Encoders
    known: tuple[int, ...] = ()
    decoder: MediaDecoder | None = None

    @torch.no_grad()
    def encode(self, clip: Clip) -> EncodedClip:
        """Encode a clip; all tensors are on the CPU. Raises UsageError where its files or inputs do not fit."""
        sample = read_sample(clip, self.conditioners, self.known, self.decoder)
        for conditioner in self.conditioners:
            conditioner.check(sample.inputs, clip.size)
        if clip.lost:
            latents = torch.empty(1, 1, 0, 1, 1)
        else:
            latents, _ = self.encoders.codec().encode(to_signed(sample.video[None]).to(self.encoders.device))
        condition = together(item.encode(sample.inputs, clip.size, self.encoders) for item in self.conditioners)
        prefix = prefixed(self.conditioners, "", sample.inputs, clip.size)
        return EncodedClip(latents=latents[0].to(CPU), condition=moved(condition, CPU), prefix=prefix)


def example_of(clip: Clip, encoded: EncodedClip) -> Example:
    """Return the example that a clip is with its prompt of now."""
    return Example(
        name=clip.name, prompt=prompt_of(clip, encoded.prefix), latents=encoded.latents, condition=encoded.condition
    )


def prompt_of(clip: Clip, prefix: str) -> str:
    """Return the prompt of a clip behind the words that its conditioners put before it, as `prefixed` does."""
    return prefix + clip.item.caption.strip() if prefix else clip.item.caption


@torch.no_grad()
def text_rows(parts: Parts, prompts: Iterable[str], device: torch.device) -> dict[str, Float[Tensor, "n d"]]:
    """Encode prompts by the text encoder of a model, which is gone afterwards; on the CPU."""
    tokenizer, encoder = parts.tokenizer(), parts.text_encoder(torch.float32, device)
    rows = {
        prompt: encode(encoder, tokenizer([prompt], encoder.spec.length))[0].to(CPU)
        for prompt in dict.fromkeys(prompts)
    }
    del encoder
    release_memory()
    return rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipExamples:
    """Encoded clips, in memory or in a cache, in the batches of an order; see `Examples`.

    With `dropout` they have the variants of the clips too, which take their places where inputs are lost; `known` are
    the frames that are given of every clip.
    """

    order: BatchOrder
    encoded: Mapping[Clip, Example] = field(repr=False)
    text: Mapping[str, Float[Tensor, "n d"]] = field(repr=False)
    dropout: InputDropout | None = None
    known: tuple[int, ...] = ()

    def count(self, step: int) -> int:
        """See `Examples`."""
        return len(self.order.at(step))

    def alike(self, step: int) -> int:
        """See `Examples`."""
        return self.order.first_alike(step)

    def draw(self, step: int, mine: slice) -> list[Example]:
        """See `Examples`."""
        clips = self.order.at(step)
        if self.dropout is None:
            return [self.encoded[clip] for clip in clips[mine]]
        lost = self.dropout.draw(len(clips), self.order.seed, step)
        return [self._without(clip, roles) for clip, roles in zip(clips[mine], lost[mine], strict=True)]

    def names(self, step: int) -> list[str]:
        """See `Examples`."""
        return [clip.name for clip in self.order.at(step)]

    def rows(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """See `Examples`."""
        return torch.stack([self.text[prompt] for prompt in prompts])

    def _without(self, clip: Clip, roles: tuple[str, ...]) -> Example:
        """Return the example of a clip, with all that its inputs decide as that of its variant without these."""
        whole, variant = self.encoded[clip], clip.without(roles, self.known)
        if variant == clip:
            return whole
        rest = self.encoded[variant]
        return replace(whole, prompt=rest.prompt, condition=rest.condition)
