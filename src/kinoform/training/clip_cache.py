"""Clips of a dataset in a cache: who encodes them, and how they are read again, as if they had just been encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.checkpoints.hashes import model_hash
from kinoform.conditions.protocols import Conditioner
from kinoform.datasets.clips import Clip
from kinoform.loading.parts import Parts
from kinoform.media.shared_decoder import SharedDecoder
from kinoform.models.text import TextEncoder, encode
from kinoform.models.tokenizer import Tokenizer
from kinoform.ops.memory import release_memory
from kinoform.pipelines.part_cache import PartEncoders
from kinoform.training.cache.examples import EncodedClip, ExampleCache
from kinoform.training.checkpoint import fingerprint
from kinoform.training.clip_examples import ClipEncoder, example_of, prompt_of
from kinoform.training.devices import CPU
from kinoform.training.examples import Example

PRECISION = torch.float32
"""Precision of the encoders, as in a training that keeps nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """Folder of a cache, and the numbers in which it keeps latents and conditions."""

    folder: Path
    dtype: torch.dtype = torch.bfloat16


def opened_cache(
    settings: CacheSettings, parts: Parts, conditioners: tuple[Conditioner, ...], known: tuple[int, ...]
) -> ExampleCache:
    """Open a cache of what these parts and conditioners encode; models that share their encoders share it."""
    decides = {
        "codec": _hash(parts, "codec"),
        "image_encoder": _hash(parts, "image_encoder"),
        "conditioners": conditioners,
        "known": known,
        "precision": PRECISION,
    }
    text = {
        "text_encoder": _hash(parts, "text_encoder"),
        "tokenizer": _hash(parts, "tokenizer"),
        "precision": PRECISION,
    }
    return ExampleCache(settings.folder, clips=fingerprint(decides), text=fingerprint(text), dtype=settings.dtype)


def _hash(parts: Parts, name: str) -> str:
    files = parts.encoder_files.get(name, ())
    return model_hash(files) if files else repr(getattr(parts, f"{name}_spec", None))


class ModelEncoders:
    """Encoders of clips and prompts from the parts of a model, of which one kind is in memory at a time.

    See `cache.fill.ClipEncoders`.
    """

    def __init__(
        self, parts: Parts, conditioners: tuple[Conditioner, ...], known: tuple[int, ...], device: torch.device
    ) -> None:
        self._parts, self._conditioners, self._known, self._device = parts, conditioners, known, device
        self._clips: ClipEncoder | None = None
        self._text: tuple[Tokenizer, TextEncoder] | None = None
        self._decoder = SharedDecoder()

    def clip(self, clip: Clip) -> EncodedClip:
        """Encode a clip. Raises UsageError where its files or inputs do not fit."""
        if self._clips is None:
            self._clips = ClipEncoder(
                conditioners=self._conditioners,
                encoders=PartEncoders(self._parts, self._device, PRECISION),
                known=self._known,
                decoder=self._decoder,
            )
        return self._clips.encode(clip)

    def close(self) -> None:
        """Let the encoders of clips go, and the process that decodes."""
        self._clips = None
        self._decoder.close()
        release_memory()

    def rows(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """Encode prompts; the other encoders are gone then."""
        if self._text is None:
            self.close()
            self._text = self._parts.tokenizer(), self._parts.text_encoder(PRECISION, self._device)
        tokenizer, encoder = self._text
        return torch.stack([encode(encoder, tokenizer([item], encoder.spec.length))[0].to(CPU) for item in prompts])


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptsOf:
    """Prompts of cached clips, behind the words that stand before them, and `others`; see `FillPlan`.

    `also` adds to those of the clips.
    """

    clips: tuple[Clip, ...]
    others: tuple[str, ...] = ()
    also: Callable[[Iterable[str]], list[str]] = list

    def __call__(self, cache: ExampleCache) -> list[str]:
        told = (prompt_of(clip, cache.prefix(clip.key)) for clip in self.clips if cache.has(clip.key))
        return list(dict.fromkeys((*self.others, *self.also(told))))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CachedClips(Mapping[Clip, Example]):
    """Examples of `clips` that are in a cache, read when they are asked for."""

    cache: ExampleCache = field(repr=False)
    clips: tuple[Clip, ...]

    def __getitem__(self, clip: Clip, /) -> Example:
        return example_of(clip, self.cache.read(clip.key))

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def __len__(self) -> int:
        return len(self.clips)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CachedText(Mapping[str, Tensor]):
    """Features of `prompts` that are in a cache, read when they are asked for."""

    cache: ExampleCache = field(repr=False)
    prompts: tuple[str, ...]

    def __getitem__(self, prompt: str, /) -> Float[Tensor, "n d"]:
        return self.cache.rows(prompt)

    def __iter__(self) -> Iterator[str]:
        return iter(self.prompts)

    def __len__(self) -> int:
        return len(self.prompts)
