"""How many numbers a model holds, and how many bytes they are: counted on modules that hold nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from kinoform.models.codec import CodecSpec
from kinoform.models.dit import DiTSpec, keeps_float32
from kinoform.models.meta import on_meta
from kinoform.models.text import TextSpec
from kinoform.models.vision import VisionSpec
from kinoform.plan.work import Sizes

WIDE = torch.float32.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Parameters of a part; `wide` of them are float32 whatever the dtype of the others."""

    parameters: int
    wide: int

    def bytes(self, dtype: torch.dtype) -> int:
        """Bytes in memory when the part is loaded in `dtype`."""
        return self.wide * WIDE + (self.parameters - self.wide) * dtype.itemsize


def counts(sizes: Sizes) -> Mapping[str, Count]:
    """The count of each part: `text encoder`, `image encoder` where there is one, `transformer`, `codec`."""
    return {
        "text encoder": text_count(sizes.text),
        **({} if sizes.image is None else {"image encoder": vision_count(sizes.image)}),
        "transformer": transformer_count(sizes.transformer),
        "codec": codec_count(sizes.codec),
    }


@lru_cache
def text_count(spec: TextSpec) -> Count:
    return _counted(spec.build, lambda name: False)


@lru_cache
def vision_count(spec: VisionSpec) -> Count:
    return _counted(spec.build, lambda name: False)


@lru_cache
def transformer_count(spec: DiTSpec) -> Count:
    """What `keeps_float32` names is wide."""
    return _counted(spec.build, keeps_float32)


@lru_cache
def codec_count(spec: CodecSpec) -> Count:
    """All wide: the codec is float32. Nothing for one that is `weightless`, or that is no module."""
    if spec.weightless:
        return Count(parameters=0, wide=0)
    with torch.device("meta"):
        built = spec.build()
    if not isinstance(built, nn.Module):
        return Count(parameters=0, wide=0)
    count = sum(parameter.numel() for parameter in built.parameters())
    return Count(parameters=count, wide=count)


def _counted(build: Callable[[], nn.Module], wide: Callable[[str], bool]) -> Count:
    found = [(parameter.numel(), wide(name)) for name, parameter in on_meta(build).named_parameters()]
    return Count(parameters=sum(n for n, _ in found), wide=sum(n for n, is_wide in found if is_wide))
