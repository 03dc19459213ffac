"""The whole plan of a video: tensors, parameters, operations and memory, known before anything loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch

from kinoform.conditions.protocols import EncodeCost
from kinoform.conditions.standard_inputs import SOURCE_PROMPT
from kinoform.plan.autoencoder import CodecWork, decode_work, encode_work
from kinoform.plan.evaluations import Asked, Evaluations, evaluations
from kinoform.plan.memory import Peak, peaks
from kinoform.plan.parameters import Count, counts
from kinoform.plan.tensors import TensorPlan, tensors
from kinoform.plan.text import text_flops
from kinoform.plan.transformer import TransformerFlops, transformer_flops
from kinoform.plan.uncounted import uncounted
from kinoform.plan.vision import vision_flops
from kinoform.plan.work import Sizes, Work, check, demands, grid_of, latents_of, told

MADE = ("width", "height", "num_frames", "steps", "guidance_scale")
"""What a plan in JSON says of its video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFlops:
    """Operations of a stage as the official code runs it, and as kinoform does."""

    official: int
    executed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPlan:
    """What a video takes. `dtype` is that of text encoder and transformer, `device` a device's type.

    `negative` is the transformer under the negative prompt. `lead` latent frames are denoised before the video;
    `encode` is the work of encoding one whole video, `reading` the operations of all that is encoded; `uncounted` says
    in words what nothing here counts.
    """

    work: Work
    dtype: torch.dtype
    device: str
    tokens: int
    tensors: tuple[TensorPlan, ...]
    parameters: Mapping[str, Count]
    transformer: TransformerFlops
    negative: TransformerFlops
    asked: Asked
    lead: int
    text: int
    decode: CodecWork
    encode: CodecWork
    reading: int
    peaks: tuple[Peak, ...]
    uncounted: tuple[str, ...]

    @property
    def flops(self) -> Mapping[str, StageFlops]:
        """By stage. Text is counted at the full length of a prompt: an upper bound of what is executed."""
        both = 2 + (self.work.inputs[SOURCE_PROMPT] is not None)
        return {
            "text": StageFlops(official=both * self.text, executed=self.work.prompts * self.text),
            **({"encode": StageFlops(official=self.reading, executed=self.reading)} if self.reading else {}),
            "denoise": StageFlops(
                official=self._denoising(lambda of, asked: of.official(asked.velocities, self.negative)),
                executed=self._denoising(lambda of, asked: of.executed(asked, self.negative)),
            ),
            "decode": StageFlops(official=self.decode.flops, executed=self.decode.flops),
        }

    def _denoising(self, count: Callable[[TransformerFlops, Evaluations], int]) -> int:
        """The source prompt is asked with what the negative prompt is given."""
        return count(self.transformer, self.asked.prompt) + count(self.negative, self.asked.source)

    @property
    def worst(self) -> Peak:
        """The stage that takes the most memory."""
        return max(self.peaks, key=lambda peak: peak.total)

    def as_json(self) -> dict[str, object]:
        """Plain values: numbers of parameters, bytes and operations."""
        return {
            **{name: getattr(self.work, name) for name in MADE},
            "lead": self.lead,
            "others": self.work.others,
            "evaluations": asdict(self.asked.together),
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
                "outside": asdict(self.transformer.outside),
                "layers": len(self.transformer.blocks),
                "branches": {name: asdict(branch) for name, branch in self.transformer.branches.items()},
            },
            "encode_flops": self.encode.flops,
            "flops": {stage: asdict(flops) for stage, flops in self.flops.items()},
            "codec_history_bytes": self.decode.history,
            "peaks": {peak.stage: asdict(peak) | {"total": peak.total} for peak in self.peaks},
            "not_counted": list(self.uncounted),
        }


def plan_video(sizes: Sizes, work: Work, *, dtype: torch.dtype, device: str) -> VideoPlan:
    """Raises UsageError when the codec cannot hold the video or the operations of a part are not known."""
    check(sizes, work)
    latents, grid, needed = latents_of(sizes, work), grid_of(sizes, work), demands(sizes, work)
    given = told(sizes, work)
    strength = min((each.strength for each in needed if each.strength is not None), default=None)
    return VideoPlan(
        work=work,
        dtype=dtype,
        device=device,
        tokens=grid.tokens,
        tensors=tensors(sizes, work, dtype),
        parameters=counts(sizes),
        transformer=transformer_flops(sizes.transformer, grid, given),
        negative=transformer_flops(sizes.transformer, grid, given.negative()),
        asked=evaluations(work, strength),
        lead=sum(each.prefix_frames for each in needed),
        text=text_flops(sizes.text, sizes.text.length),
        decode=decode_work(sizes.codec, latents),
        encode=encode_work(sizes.codec, latents),
        reading=_reading(sizes, needed, latents),
        peaks=peaks(sizes, work, dtype, device),
        uncounted=uncounted(sizes, work),
    )


def _reading(sizes: Sizes, needed: list[EncodeCost], latents: tuple[int, int, int]) -> int:
    videos, stills, images = (sum(getattr(each, name) for each in needed) for name in ("videos", "stills", "images"))
    still = encode_work(sizes.codec, (1, *latents[1:])).flops
    seen = 0 if sizes.image is None else images * vision_flops(sizes.image)
    return videos * encode_work(sizes.codec, latents).flops + stills * still + seen
