"""Parts of a model that are loaded at their first use, once: for one video, or for all of a small model."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cached_property
from threading import Lock
from typing import Generic, TypeVar

import torch

from kinoform.loading.parts import Parts
from kinoform.models.codec import Codec
from kinoform.models.vision import VisionEncoder

T = TypeVar("T")


def kept(parts: Parts) -> Parts:
    """Return parts that are loaded at their first use, once, whichever threads use them, and then stay in memory."""
    return replace(
        parts,
        tokenizer=_Once(parts.tokenizer),
        text_encoder=_Once(parts.text_encoder),
        transformers=tuple(map(_Once, parts.transformers)),
        codec=_Once(parts.codec),
        image_encoder=_Once(parts.image_encoder),
        fingerprint=_Once(parts.fingerprint),
    )


class _Once(Generic[T]):
    """Function that is called once for the same arguments, and whose result is returned again.

    It is called outside of the inference mode of its first caller: tensors made there could never take part in a
    gradient, so that the use of a part would depend on who loaded it.
    """

    def __init__(self, function: Callable[..., T]) -> None:
        self._function, self._lock = function, Lock()
        self._results: dict[tuple[Hashable, ...], T] = {}

    def __call__(self, *arguments: Hashable) -> T:
        with self._lock:
            if arguments not in self._results:
                with torch.inference_mode(mode=False), torch.no_grad():
                    self._results[arguments] = self._function(*arguments)
            return self._results[arguments]


def image_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return float16 for bfloat16 on an accelerator, where the official code runs CLIP as it was trained.

    bfloat16 is ten times further off. On a CPU, which multiplies slowly in float16, return the dtype itself.
    """
    return torch.float16 if dtype == torch.bfloat16 and device.type != "cpu" else dtype


class PartEncoders:
    """Encoders of images and videos from the parts of a model, loaded once; see `conditions.protocols.Encoders`."""

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
