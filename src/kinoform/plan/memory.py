"""Peak memory of each stage of a video: the interpreter, the weights that are there, and what the work holds.

The work's share is counted by running the parts on the meta device; benchmarks/peak_memory.py compares the sums with
what processes were seen to take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod
from typing import NamedTuple

import torch

from kinoform.conditions.protocols import ConditionerOutput, EncodeCost, EstimatesCost
from kinoform.models.dit import DiTSpec
from kinoform.ops.dry_run import Kernels, kernels_of
from kinoform.ops.meta_shapes import META
from kinoform.plan.evaluations import Asked, experts_reached, possible
from kinoform.plan.modules import (
    FLOAT32,
    PartRun,
    attempted,
    codec_count,
    decode_run,
    encode_run,
    text_count,
    text_run,
    vision_count,
    vision_run,
)
from kinoform.plan.transformer import DenoiseRun, measured_transformer, transformer_count
from kinoform.plan.workload import (
    LatentSize,
    Sizes,
    Workload,
    denoised_latents,
    estimates,
    latents_of,
    output_of,
    strength_of,
    whole_latents,
)

INTERPRETER = {"cpu": 280_000_000}
"""Bytes of a process that has imported everything and made a video of no size, measured with PyTorch 2.13 for CPUs."""

ACCELERATOR = 500_000_000
"""Bytes of an accelerator's memory that its driver and libraries take, about."""

SOLVER_COPIES = 8
"""Tensors of the latents' size that a multistep solver and the guidance hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Bytes at the worst moment of a stage, by what takes them.

    `activations` are tensors that the code holds; `kernels` are copies that the kernels of this device make besides.
    """

    stage: str
    fixed: int
    weights: int
    activations: int
    kernels: int = 0

    @property
    def total(self) -> int:
        return self.fixed + self.weights + self.activations + self.kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Peaks of a video's stages, and in words what is not counted in them: each kind of part once."""

    peaks: tuple[Peak, ...]
    uncounted: tuple[str, ...]

    @property
    def worst(self) -> Peak:
        """The stage that takes the most memory."""
        return max(self.peaks, key=lambda peak: peak.total)


class Moment(NamedTuple):
    """Bytes of weights, of tensors and of kernels' copies at one time."""

    weights: int
    tensors: int
    copies: int = 0


def needs(
    sizes: Sizes, workload: Workload, dtype: torch.dtype, device: str, kernels: Kernels | None = None,
    denoising: Sequence[DenoiseRun] | None = None,
) -> Needs:  # fmt: skip
    """Return the peaks of the stages text, encode (where there is anything to encode), denoise and decode on `device`.

    The networks are in `dtype`. Parts that are kept stay beside those that come after them, and so does the transformer
    where other videos follow. Without `kernels` they are those of this machine; `denoising` are the runs of the
    transformers, where they are known.
    """
    kernels = kernels_of(device, dtype) if kernels is None else kernels
    runs = denoise_runs(sizes, workload, dtype, kernels) if denoising is None else denoising
    costs = estimates(sizes, workload)
    text, decode = (
        text_run(sizes.text, dtype, kernels),
        decode_run(sizes.codec, whole_latents(sizes, workload), kernels),
    )
    found = [("text", Moment(text_count(sizes.text).bytes(dtype), text.peak))]
    reading = _reading(sizes, workload, costs, dtype, device, kernels)
    if reading is not None:
        found.append(("encode", reading._replace(weights=_kept_text(sizes, dtype) + reading.weights)))
    found.append(("denoise", _denoising(sizes, workload, costs, runs, dtype)))
    found.append(("decode", _decoding(sizes, workload, costs, decode, dtype, device)))
    fixed, material = INTERPRETER.get(device, ACCELERATOR), workload.material if device == "cpu" else 0
    return Needs(
        peaks=tuple(
            Peak(
                stage=stage, fixed=fixed, weights=moment.weights, activations=moment.tensors + material,
                kernels=moment.copies,
            )
            for stage, moment in found
        ),
        uncounted=tuple(dict.fromkeys(_uncounted(sizes, workload, costs, runs, decode, kernels))),
    )  # fmt: skip


def denoise_runs(
    sizes: Sizes, workload: Workload, dtype: torch.dtype, kernels: Kernels, asked: Sequence[Asked] | None = None
) -> tuple[DenoiseRun, ...]:
    """Run each transformer with what is `asked` of it, or may be; without its branches where it cannot be run so."""
    asked = possible(workload) if asked is None else asked
    return tuple(
        _denoise_run(sizes, workload, dtype, kernels, spec, own)
        for spec, own in zip(sizes.transformers, asked, strict=True)
    )


def _denoise_run(
    sizes: Sizes, workload: Workload, dtype: torch.dtype, kernels: Kernels, spec: DiTSpec, asked: Asked
) -> DenoiseRun:
    latents = denoised_latents(sizes, workload)
    text = torch.empty(1, sizes.text.length, sizes.text.dim, dtype=dtype, device=META)
    measured, failure = attempted(lambda: measured_transformer(spec))
    if measured is None:
        return DenoiseRun(failure=failure)

    def run(output: Callable[[], ConditionerOutput]) -> DenoiseRun:
        if _is_empty(output()):
            return _run_of_words(spec, latents, tuple(text.shape), dtype, asked, kernels)
        return measured.run(latents, text, output, asked, kernels)

    output = partial(output_of, sizes, workload)
    result, failure = attempted(lambda: run(output))
    if result is None and spec.branches:
        without, _ = attempted(lambda: run(lambda: replace(output(), branches={})))
        result = None if without is None else replace(without, branch_failure=failure)
    return DenoiseRun(failure=failure) if result is None else result


def _is_empty(output: ConditionerOutput) -> bool:
    given = output.context or output.branches or output.segments
    return not given and output.channels is None and output.clean is None


@lru_cache(maxsize=64)
def _run_of_words(
    spec: DiTSpec, latents: LatentSize, text: tuple[int, ...], dtype: torch.dtype, asked: Asked, kernels: Kernels
) -> DenoiseRun:
    """Run a transformer for videos from words alone, of which many may be alike."""
    rows = torch.empty(text, dtype=dtype, device=META)
    return measured_transformer(spec).run(latents, rows, ConditionerOutput, asked, kernels)


def denoise_peak(sizes: Sizes, workload: Workload, runs: Sequence[DenoiseRun], dtype: torch.dtype, device: str) -> int:
    """Bytes of the stage denoise alone."""
    material = workload.material if device == "cpu" else 0
    moment = _denoising(sizes, workload, estimates(sizes, workload), runs, dtype)
    return INTERPRETER.get(device, ACCELERATOR) + material + sum(moment)


def _kept_text(sizes: Sizes, dtype: torch.dtype) -> int:
    return text_count(sizes.text).bytes(dtype) if sizes.kept else 0


def _reading(
    sizes: Sizes, workload: Workload, costs: Sequence[EncodeCost], dtype: torch.dtype, device: str, kernels: Kernels
) -> Moment | None:
    """Weights and work where these together are most; an encoder stays from when it is first asked for. Or None."""
    latents, weights, moments = latents_of(sizes, workload), {}, []
    for each in costs:
        held = each.held if device == "cpu" else 0
        if each.videos or each.stills:
            weights["codec"] = codec_count(sizes.codec).bytes(dtype)
            work = encode_run(sizes.codec, latents if each.videos else (1, *latents[1:]), kernels)
            moments.append(Moment(sum(weights.values()), work.peak + held, work.copies))
        if each.images and sizes.image is not None:
            weights["image"] = vision_count(sizes.image).bytes(dtype)
            moments.append(Moment(sum(weights.values()), held + vision_run(sizes.image, dtype, kernels).peak))
    return max(moments, key=sum, default=None)


def _denoising(
    sizes: Sizes, workload: Workload, costs: Sequence[EncodeCost], runs: Sequence[DenoiseRun], dtype: torch.dtype
) -> Moment:
    """The transformer that takes the most of those that are loaded, the solver's tensors, and what is kept."""
    kept, beside = sizes.kept, _kept_text(sizes, dtype)
    if kept and any(each.videos or each.stills for each in costs):
        beside += codec_count(sizes.codec).bytes(dtype)
    weights = _loaded_transformers(sizes, workload, costs, dtype)
    solver = SOLVER_COPIES * FLOAT32 * sizes.transformer.out_channels * prod(denoised_latents(sizes, workload))
    if workload.windows > 1:  # those that are made, and the same with a window more
        solver += 2 * FLOAT32 * sizes.transformer.out_channels * prod(whole_latents(sizes, workload))
    moments = (
        Moment(beside + (sum(weights.values()) if kept else own), runs[index].peak + solver, runs[index].copies)
        for index, own in weights.items()
    )
    return max(moments, key=sum)


def _loaded_transformers(
    sizes: Sizes, workload: Workload, costs: Sequence[EncodeCost], dtype: torch.dtype
) -> dict[int, int]:
    """Bytes of each transformer that makes steps, by its index, in the order in which they are loaded."""
    reached = sorted(experts_reached(workload, strength_of(costs)))
    return {index: transformer_count(sizes.transformers[index]).bytes(dtype) for index in reached}


def _decoding(
    sizes: Sizes, workload: Workload, costs: Sequence[EncodeCost], decode: PartRun, dtype: torch.dtype, device: str
) -> Moment:
    """The codec's peak beside the frames; at the end, without it, the frames twice. Frames are on the host."""
    transformers = [*_loaded_transformers(sizes, workload, costs, dtype).values()]
    beside = sum(transformers) if sizes.kept else transformers[-1] if workload.others else 0
    weights = codec_count(sizes.codec).bytes(dtype) + _kept_text(sizes, dtype) + beside
    frames = 3 * workload.all_frames * workload.height * workload.width if device == "cpu" else 0
    return max(Moment(weights, decode.peak + frames, decode.copies), Moment(weights, 2 * frames), key=sum)


def _uncounted(
    sizes: Sizes, workload: Workload, costs: Sequence[EncodeCost], runs: Sequence[DenoiseRun], decode: PartRun,
    kernels: Kernels,
) -> Iterator[str]:  # fmt: skip
    latents, codec = latents_of(sizes, workload), type(sizes.codec).__name__
    encodes = any(each.videos or each.stills for each in costs)
    for verb, run in (("decodes", decode), ("encodes", encode_run(sizes.codec, latents, kernels) if encodes else None)):
        if run is not None and run.failure is not None:
            yield f"what the codec {codec} {verb} ({run.failure})"
    for run, spec in zip(runs, sizes.transformers, strict=True):
        if run.failure is not None:
            beyond = " beyond its weights" if transformer_count(spec).parameters else ""
            yield f"the transformer of {type(spec.block).__name__}{beyond} ({run.failure})"
        if run.branch_failure is not None:
            names = ", ".join(repr(branch.name) for branch in spec.branches)
            yield f"the branches {names} beyond their weights ({run.branch_failure})"
    for each in workload.conditioners:
        if not isinstance(each, EstimatesCost):
            yield f"what {type(each).__name__} encodes and gives"
