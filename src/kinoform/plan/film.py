"""The whole plan of a film: tensors, parameters, operations and memory, known before anything loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from kinoform.plan.autoencoder import CodecWork, decode_work, encode_work
from kinoform.plan.memory import Peak, peaks
from kinoform.plan.parameters import Count, counts
from kinoform.plan.tensors import TensorPlan, tensors
from kinoform.plan.text import text_flops
from kinoform.plan.transformer import TransformerFlops, transformer_flops
from kinoform.plan.work import Sizes, Work, check, grid_of, latents_of

PROMPTS = 2
"""The prompt and the negative prompt; both are encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFlops:
    """Operations of a stage as the official code runs it, and as kinoform does."""

    official: int
    executed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmPlan:
    """What a film takes. `dtype` is that of text encoder and transformer, `device` a device's type."""

    work: Work
    dtype: torch.dtype
    device: str
    tokens: int
    tensors: tuple[TensorPlan, ...]
    parameters: Mapping[str, Count]
    transformer: TransformerFlops
    text: int
    decode: CodecWork
    encode: CodecWork
    peaks: tuple[Peak, ...]

    @property
    def flops(self) -> Mapping[str, StageFlops]:
        """By stage. Text is counted at the full length of a prompt: an upper bound of what is executed."""
        text, work = PROMPTS * self.text, self.work
        return {
            "text": StageFlops(official=text, executed=text),
            "denoise": StageFlops(
                official=self.transformer.official(work.steps),
                executed=self.transformer.executed(work.steps, work.branches),
            ),
            "decode": StageFlops(official=self.decode.flops, executed=self.decode.flops),
        }

    @property
    def worst(self) -> Peak:
        """The stage that takes the most memory."""
        return max(self.peaks, key=lambda peak: peak.total)

    def as_json(self) -> dict[str, object]:
        """Plain values: numbers of parameters, bytes and operations."""
        return {
            **asdict(self.work),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device,
            "tokens": self.tokens,
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "parameters": {part: count.parameters for part, count in self.parameters.items()},
            "weight_bytes": {
                name: {part: count.bytes(dtype) for part, count in self.parameters.items()}
                for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
            },
            "forward_flops": {
                "total": self.transformer.forward,
                "block": asdict(self.transformer.block),
                "outside": asdict(self.transformer.outside),
                "layers": self.transformer.layers,
            },
            "encode_flops": self.encode.flops,
            "flops": {stage: asdict(flops) for stage, flops in self.flops.items()},
            "codec_history_bytes": self.decode.history,
            "peaks": {peak.stage: asdict(peak) | {"total": peak.total} for peak in self.peaks},
        }


def plan_film(sizes: Sizes, work: Work, *, dtype: torch.dtype, device: str) -> FilmPlan:
    """Raises UsageError when the codec cannot hold the film or the operations of a part are not known."""
    check(sizes, work)
    latents, tokens = latents_of(sizes, work), grid_of(sizes, work).tokens
    return FilmPlan(
        work=work,
        dtype=dtype,
        device=device,
        tokens=tokens,
        tensors=tensors(sizes, work, dtype),
        parameters=counts(sizes),
        transformer=transformer_flops(sizes.transformer, tokens),
        text=text_flops(sizes.text, sizes.text.length),
        decode=decode_work(sizes.codec, latents),
        encode=encode_work(sizes.codec, latents),
        peaks=peaks(sizes, work, dtype, device),
    )
