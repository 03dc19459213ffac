"""Parts of a model on the meta device: how much they hold, and what text encoder, image encoder and codec take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from kinoform.models.codec import Codec, CodecSpec, decode_video, encode_video
from kinoform.models.meta import on_meta
from kinoform.models.text import TextSpec
from kinoform.models.vision import VisionSpec
from kinoform.ops.dry_run import DryRun, Kernels
from kinoform.ops.meta_shapes import META
from kinoform.plan.workload import LatentSize

FLOAT32 = torch.float32.itemsize
STEADY = 3
"""Chunks from which on a codec is taken to go on as it does, once two in a row take the same operations."""

Result = TypeVar("Result")
Steady: TypeAlias = Callable[[int], bool]
"""Told the bytes of the history after each chunk; whether the chunks that follow need not be run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Parameters of a part; `wide` of them are float32 whatever the dtype of the others."""

    parameters: int
    wide: int

    def bytes(self, dtype: torch.dtype) -> int:
        """Bytes in memory when the part is loaded in `dtype`."""
        return self.wide * FLOAT32 + (self.parameters - self.wide) * dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRun:
    """Operations of a part, bytes of the tensors alive at its worst moment, and of what kernels copy on top of these.

    `history` are the bytes that a codec keeps between chunks. `failure` says why the part could not be run on the meta
    device; nothing is counted then.
    """

    flops: int = 0
    peak: int = 0
    copies: int = 0
    history: int = 0
    failure: str | None = None


@lru_cache
def text_count(spec: TextSpec) -> Count:
    return count_of(on_meta(spec.build), lambda name: False)


@lru_cache
def vision_count(spec: VisionSpec) -> Count:
    return count_of(on_meta(spec.build), lambda name: False)


@lru_cache
def codec_count(spec: CodecSpec) -> Count:
    """Count of a codec, all wide since it is float32; none where it is no module, or is not built on meta."""
    built, _ = attempted(lambda: _codec(spec))
    return count_of(built, lambda name: True) if isinstance(built, nn.Module) else Count(parameters=0, wide=0)


@lru_cache
def text_run(spec: TextSpec, dtype: torch.dtype, kernels: Kernels) -> PartRun:
    """One prompt of full length."""
    encoder = _encoder(spec, dtype)
    ids = torch.empty(1, spec.length, dtype=torch.int64, device=META)
    return _once(lambda: encoder(ids, ids), kernels)


@lru_cache
def vision_run(spec: VisionSpec, dtype: torch.dtype, kernels: Kernels) -> PartRun:
    """One image, as `preprocess` hands it over."""
    encoder = _encoder(spec, dtype)
    return _once(lambda: encoder(torch.empty(1, 3, spec.image, spec.image, device=META)), kernels)


@lru_cache(maxsize=256)
def decode_run(spec: CodecSpec, latents: LatentSize, kernels: Kernels) -> PartRun:
    """Latents (frames, height, width) to pixels, a latent frame at a time; its pixels stay while the next are made."""

    def decode(codec: Codec, run: DryRun, steady: Steady) -> None:
        for pixels in decode_video(codec, video):
            if steady(max(0, run.now - pixels.nbytes)):
                return

    video = torch.empty(1, spec.channels, *latents, device=META)
    return _streamed(spec, decode, latents[0], kernels)


@lru_cache(maxsize=256)
def encode_run(spec: CodecSpec, latents: LatentSize, kernels: Kernels) -> PartRun:
    """Pixels to latents (frames, height, width): the first frame, then as many as make a latent frame."""
    frames, height, width = latents
    time, rows, columns = spec.stride

    def encode(codec: Codec, run: DryRun, steady: Steady) -> None:
        def chunks() -> Iterator[Tensor]:
            for number in range(frames):
                yield torch.empty(1, 3, time if number else 1, height * rows, width * columns, device=META)
                if steady(0):
                    return

        encode_video(codec, chunks())

    return _streamed(spec, encode, frames, kernels)


def attempted(call: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """Return the result of a call that may be a stranger's code, or why there is none."""
    try:
        return call(), None
    except Exception as error:  # whatever a stranger's module raises where tensors have no values
        first, *_ = str(error).splitlines() or [""]
        return None, f"{type(error).__name__}: {first}"


def count_of(module: nn.Module, wide: Callable[[str], bool]) -> Count:
    found = [(parameter.numel(), wide(name)) for name, parameter in module.named_parameters()]
    return Count(parameters=sum(n for n, _ in found), wide=sum(n for n, is_wide in found if is_wide))


def _encoder(spec: TextSpec | VisionSpec, dtype: torch.dtype) -> nn.Module:
    encoder = on_meta(spec.build)
    for parameter in encoder.parameters():
        parameter.data = parameter.data.to(dtype)
    return encoder


@lru_cache(maxsize=8)
def _codec(spec: CodecSpec) -> Codec:
    with META:
        return spec.build()


def _once(call: Callable[[], object], kernels: Kernels) -> PartRun:
    with torch.no_grad(), DryRun(kernels) as run:
        call()
    return PartRun(flops=run.flops.total(), peak=run.peak, copies=run.peak_with_copies - run.peak)


def _streamed(spec: CodecSpec, work: Callable[[Codec, DryRun, Steady], None], frames: int, kernels: Kernels) -> PartRun:
    """Run the first chunks, until two in a row take the same operations; the others take them too."""
    run, marks, history = DryRun(kernels), [0], 0

    def steady(kept: int) -> bool:
        nonlocal history
        history = kept
        marks.append(run.flops.total())
        return len(marks) > STEADY and marks[-1] - marks[-2] == marks[-2] - marks[-3]

    def call() -> None:
        codec = _codec(spec)
        with torch.no_grad(), run:
            work(codec, run, steady)

    _, failure = attempted(call)
    if failure is not None:
        return PartRun(failure=failure)
    others = frames - (len(marks) - 1)
    return PartRun(
        flops=marks[-1] + others * (marks[-1] - marks[-2]) if others > 0 else run.flops.total(),
        peak=run.peak,
        copies=run.peak_with_copies - run.peak,
        history=history,
    )
