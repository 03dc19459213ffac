"""Parts that stay in memory once loaded: for small models that make many videos."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from threading import Lock
from typing import Generic, TypeVar

import torch

from kinoform.loading.parts import Parts

T = TypeVar("T")


def kept(parts: Parts) -> Parts:
    """Parts that are loaded at their first use, once, whichever threads use them, and are the same ever after."""
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
    """A function that is called once for the same arguments; what it returned is returned again.

    It is called outside of the inference mode that the first caller may be in: tensors made there can never take part
    in a gradient, and what may be done with a part would depend on who asked for it first.
    """

    def __init__(self, function: Callable[..., T]) -> None:
        self._function, self._lock = function, Lock()
        self._found: dict[tuple[Hashable, ...], T] = {}

    def __call__(self, *words: Hashable) -> T:
        with self._lock:
            if words not in self._found:
                with torch.inference_mode(mode=False), torch.no_grad():
                    self._found[words] = self._function(*words)
            return self._found[words]
