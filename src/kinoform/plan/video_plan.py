"""The whole plan of a video: tensors, parameters, operations and memory, known before anything loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from kinoform.conditions.protocols import EncodeCost
from kinoform.conditions.standard_inputs import SOURCE_PROMPT
from kinoform.ops.dry_run import Kernels, kernels_of
from kinoform.plan.evaluations import Asked, evaluations, total
from kinoform.plan.memory import Peak, denoise_runs, needs
from kinoform.plan.modules import (
    Count,
    PartRun,
    codec_count,
    decode_run,
    encode_run,
    text_count,
    text_run,
    vision_count,
    vision_run,
)
from kinoform.plan.tensors import TensorPlan, tensors
from kinoform.plan.transformer import DenoiseRun, ForwardFlops, time_flops, transformer_count
from kinoform.plan.workload import (
    LatentSize,
    Sizes,
    Workload,
    check,
    estimates,
    grid_of,
    latents_of,
    strength_of,
    whole_latents,
)
from kinoform.solvers.experts import boundaries_as_json

MADE = ("width", "height", "steps")
"""Keys of the video in a plan's JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFlops:
    """Operations of a stage as the official code runs it, and as kinoform does."""

    official: int
    executed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPlan:
    """Cost of a video. `dtype` is that of text encoder and transformer, `device` a device's type.

    `denoising` and `asked` have an item for each transformer, `asked` for all windows. `lead` latent frames are
    denoised before the video; `encode` is the work of encoding one whole video, `reading` the operations of all that is
    encoded; `token_times` are those, a forward, that the official code spends on times of tokens which are the same;
    `uncounted` says in words what nothing here counts.
    """

    workload: Workload
    dtype: torch.dtype
    device: str
    tokens: int
    tensors: tuple[TensorPlan, ...]
    parameters: Mapping[str, Count]
    layers: int
    denoising: tuple[DenoiseRun, ...]
    asked: tuple[Asked, ...]
    lead: int
    text: int
    decode: PartRun
    encode: PartRun
    reading: int
    token_times: int
    peaks: tuple[Peak, ...]
    uncounted: tuple[str, ...]

    @property
    def transformer(self) -> ForwardFlops:
        """One forward of the first transformer under the prompt."""
        return self.denoising[0].prompt

    @property
    def negative(self) -> ForwardFlops:
        """One forward of the first transformer under the negative prompt."""
        return self.denoising[0].negative

    @property
    def flops(self) -> Mapping[str, StageFlops]:
        """Operations by stage. Text is counted at the full length of a prompt: an upper bound of what is executed."""
        both = 2 + (self.workload.inputs[SOURCE_PROMPT] is not None)
        turns = [*zip(self.denoising, self.asked, strict=True)]
        return {
            "text": StageFlops(official=both * self.text, executed=self.workload.prompts * self.text),
            **({"encode": StageFlops(official=self.reading, executed=self.reading)} if self.reading else {}),
            "denoise": StageFlops(
                official=sum(run.official(asked) + 2 * asked.together.nfe * self.token_times for run, asked in turns),
                executed=sum(run.executed(asked) for run, asked in turns),
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
            **{name: getattr(self.workload, name) for name in MADE},
            "boundaries": boundaries_as_json(self.workload.boundaries),
            "num_frames": self.workload.all_frames,
            "windows": {"count": self.workload.windows, "num_frames": self.workload.num_frames},
            "guidance_scale": self.workload.scales.fixed(self.workload.levels).as_json(),
            "lead": self.lead,
            "others": self.workload.others,
            "evaluations": total(asked.together for asked in self.asked).as_json(),
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
                "blocks": dict(self.transformer.parts),
                "outside": dict(self.transformer.outside),
                "layers": self.layers,
                "branches": {name: asdict(branch) for name, branch in self.transformer.branches.items()},
            },
            "token_times_flops": self.token_times,
            "encode_flops": self.encode.flops,
            "flops": {stage: asdict(flops) for stage, flops in self.flops.items()},
            "codec_history_bytes": self.decode.history,
            "peaks": {peak.stage: asdict(peak) | {"total": peak.total} for peak in self.peaks},
            "not_counted": list(self.uncounted),
        }


def plan_video(sizes: Sizes, workload: Workload, *, dtype: torch.dtype, device: str) -> VideoPlan:
    """Plan a video. Raises UsageError when the codec cannot hold it."""
    check(sizes, workload)
    latents, costs, kernels = latents_of(sizes, workload), estimates(sizes, workload), kernels_of(device, dtype)
    asked = evaluations(workload, strength_of(costs))
    runs, tokens = denoise_runs(sizes, workload, dtype, kernels, asked), grid_of(sizes, workload).tokens
    times = tokens * time_flops(sizes.transformer) - runs[0].prompt.outside.get("time_embedding", 0)
    found = needs(sizes, workload, dtype, device, kernels, runs)
    return VideoPlan(
        workload=workload,
        dtype=dtype,
        device=device,
        tokens=tokens,
        tensors=tensors(sizes, workload, runs[0], dtype),
        parameters=counts(sizes),
        layers=sizes.transformer.layers,
        denoising=runs,
        asked=tuple(_in_all(each, workload.windows) for each in asked),
        lead=sum(each.prefix_frames for each in costs),
        text=text_run(sizes.text, dtype, kernels).flops,
        decode=decode_run(sizes.codec, whole_latents(sizes, workload), kernels),
        encode=encode_run(sizes.codec, latents, kernels),
        reading=_reading(sizes, costs, latents, dtype, kernels),
        token_times=times if sizes.token_times else 0,
        peaks=found.peaks,
        uncounted=found.uncounted,
    )


def _in_all(asked: Asked, windows: int) -> Asked:
    return Asked(prompt=total([asked.prompt] * windows), source=total([asked.source] * windows))


def counts(sizes: Sizes) -> dict[str, Count]:
    """The count of each part: `text encoder`, `image encoder` where there is one, `transformer`, `codec`."""
    transformers = [transformer_count(spec) for spec in sizes.transformers]
    return {
        "text encoder": text_count(sizes.text),
        **({} if sizes.image is None else {"image encoder": vision_count(sizes.image)}),
        "transformer": Count(
            parameters=sum(each.parameters for each in transformers), wide=sum(each.wide for each in transformers)
        ),
        "codec": codec_count(sizes.codec),
    }


def _reading(sizes: Sizes, costs: list[EncodeCost], latents: LatentSize, dtype: torch.dtype, kernels: Kernels) -> int:
    videos, stills, images = (sum(getattr(each, name) for each in costs) for name in ("videos", "stills", "images"))
    found = videos * encode_run(sizes.codec, latents, kernels).flops if videos else 0
    found += stills * encode_run(sizes.codec, (1, *latents[1:]), kernels).flops if stills else 0
    return found + (images * vision_run(sizes.image, dtype, kernels).flops if images and sizes.image else 0)
