"""Workload of a plan: a model's sizes and one video, checked, with the sizes that follow from both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeAlias

import torch
from torch import nn

from kinoform.conditions.inputs import NO_INPUTS, Inputs
from kinoform.conditions.protocols import (
    Conditioner,
    ConditionerOutput,
    EncodeCost,
    EncoderSpecs,
    EstimatesCost,
    Units,
    VideoSize,
    together,
)
from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES, SOURCE_PROMPT, VIDEO
from kinoform.models.codec import CodecSpec, check_size, latent_size
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.linear import Linear
from kinoform.models.lora import LoRARanks, with_adapters
from kinoform.models.lora_linear import Adapter, linear_layers
from kinoform.models.text import TextSpec
from kinoform.models.vision import VisionSpec
from kinoform.solvers.base import Solver
from kinoform.solvers.experts import Boundary
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Guidance
from kinoform.solvers.level_grids import LevelGrid
from kinoform.solvers.sampler import Denoise, Sampler, negative_is_read
from kinoform.solvers.scales import GuidanceScales, ScalesLike, guidance_scales
from kinoform.solvers.unipc import UniPC
from kinoform.types import Grid, Level

LatentSize: TypeAlias = tuple[int, int, int]
"""Latent frames, their height and their width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Specs of the parts of a model.

    `transformers` take turns, as experts of noise levels do; all have the patch and the latents of the first. `kept`:
    parts stay in memory once loaded, as those of small models do. `token_times`: the official code computes the time of
    each token by itself.
    """

    transformers: tuple[DiTSpec, ...]
    codec: CodecSpec
    text: TextSpec
    image: VisionSpec | None = None
    kept: bool = False
    token_times: bool = False

    @property
    def transformer(self) -> DiTSpec:
        return self.transformers[0]

    @property
    def units(self) -> Units:
        return Units(stride=self.codec.stride, patch=self.transformer.patch)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptedSpec(DiTSpec):
    """Spec of a transformer with adapters beside its layers; those of layers that its blocks lack are left out."""

    loras: tuple[LoRARanks, ...]

    def build(self) -> DiT:
        model = DiTSpec.build(self)
        layers = linear_layers(model)
        for index, lora in enumerate(self.loras):
            adapters = {
                name: _adapter(layers[name], rank, lora.strength) for name, rank in lora.ranks if name in layers
            }
            model = with_adapters(model, f"lora{index}", adapters)
            if lora.others:
                model.register_parameter(f"lora{index}_others", nn.Parameter(torch.empty(lora.others)))
        return model


def adapted_specs(specs: Sequence[DiTSpec], loras: Sequence[tuple[LoRARanks, ...]]) -> tuple[DiTSpec, ...]:
    """Return the specs with the LoRAs of each; as they are where it has none."""
    return tuple(
        AdaptedSpec(**{item.name: getattr(spec, item.name) for item in fields(spec)}, loras=own) if own else spec
        for spec, own in zip(specs, loras or ((),) * len(specs), strict=True)
    )


def _adapter(layer: Linear, rank: int, strength: float) -> Adapter:
    adapter = Adapter(torch.empty(rank, layer.in_features), torch.empty(layer.out_features, rank), alpha=float(rank))
    adapter.strength = strength
    return adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One video: sides in pixels, how it is denoised, and what it is made from. `boundaries` and
    `level_grid` are as in a recipe.

    With `others` more videos follow, for which the transformer stays while this one is decoded. Of a long video this is
    one of its `windows`, under one of its `texts` different prompts; `whole_frames` are those of all together.
    """

    width: int
    height: int
    num_frames: int
    steps: int
    guidance_scale: ScalesLike
    boundaries: tuple[Boundary, ...] = ()
    shift: float = 5.0
    solver: Solver = field(default_factory=UniPC)
    level_grid: LevelGrid | None = None
    sampler: Sampler = field(default_factory=Denoise)
    guidance_rule: Guidance = field(default_factory=PlainGuidance)
    inputs: Inputs = NO_INPUTS
    conditioners: tuple[Conditioner, ...] = ()
    others: bool = False
    windows: int = 1
    texts: int = 1
    whole_frames: int | None = None

    @property
    def all_frames(self) -> int:
        """Frames of the whole video."""
        return self.num_frames if self.whole_frames is None else self.whole_frames

    @property
    def video(self) -> VideoSize:
        return VideoSize(num_frames=self.num_frames, height=self.height, width=self.width)

    @property
    def scales(self) -> GuidanceScales:
        """Return the scales of guidance by expert and by condition."""
        return guidance_scales(self.guidance_scale, len(self.boundaries) + 1)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Return the noise levels of the run, as `Request.levels`."""
        return (self.level_grid or self.solver).levels(self.steps, self.shift)

    @property
    def prompts(self) -> int:
        """Prompts that are encoded: the prompt, the negative prompt if anything reads it, and a source prompt."""
        return self.texts + self.reads_negative + (self.inputs[SOURCE_PROMPT] is not None)

    @property
    def reads_negative(self) -> bool:
        return negative_is_read(self.guidance_rule, self.scales, self.sampler, self.levels)

    @property
    def material(self) -> int:
        """Bytes of the images and videos that are given."""
        clip, mask = self.inputs[VIDEO], self.inputs[MASK]
        images = (*self.inputs[FRAMES].values(), *self.inputs[REFERENCE_IMAGES])
        still = sum(image.pixels.nbytes for image in images)
        return still + (0 if clip is None else clip.frames.nbytes) + (0 if mask is None else mask.values.nbytes)


def check(sizes: Sizes, workload: Workload) -> None:
    """Raise UsageError, with the nearest legal values, when codec and patch cannot hold the video."""
    for num_frames in {workload.num_frames, workload.all_frames}:
        check_size(sizes.codec, sizes.transformer.patch, num_frames, workload.height, workload.width)


def estimates(sizes: Sizes, workload: Workload) -> list[EncodeCost]:
    """Costs of the conditioners that state them, in their order."""
    encoders = EncoderSpecs(codec=sizes.codec, image=sizes.image)
    return [
        each.estimate(workload.inputs, workload.video, sizes.units, encoders)
        for each in workload.conditioners
        if isinstance(each, EstimatesCost)
    ]


def strength_of(costs: Iterable[EncodeCost]) -> float | None:
    """Return the share of the steps that a video begun from another is redone by; None for one from noise."""
    return min((each.strength for each in costs if each.strength is not None), default=None)


def output_of(sizes: Sizes, workload: Workload) -> ConditionerOutput:
    """Contributions of all conditioners to the transformer, on the meta device."""
    return together(
        ConditionerOutput(
            context=cost.context,
            clean=cost.clean,
            branches=cost.branches,
            segments=cost.segments,
            dropped_for_cfg=cost.dropped_for_cfg,
        )
        for cost in estimates(sizes, workload)
    )


def latents_of(sizes: Sizes, workload: Workload) -> LatentSize:
    """(frames, height, width) of the video's latents."""
    return latent_size(sizes.codec, workload.num_frames, workload.height, workload.width)


def whole_latents(sizes: Sizes, workload: Workload) -> LatentSize:
    """(frames, height, width) of the latents that are decoded: those of all windows."""
    return latent_size(sizes.codec, workload.all_frames, workload.height, workload.width)


def denoised_latents(sizes: Sizes, workload: Workload) -> LatentSize:
    """`latents_of` with the frames that are denoised before the video and cut off."""
    frames, height, width = latents_of(sizes, workload)
    return sum(each.prefix_frames for each in estimates(sizes, workload)) + frames, height, width


def grid_of(sizes: Sizes, workload: Workload) -> Grid:
    """The patches of what is denoised along time, height and width."""
    latents = denoised_latents(sizes, workload)
    frames, height, width = (n // p for n, p in zip(latents, sizes.transformer.patch, strict=True))
    return Grid(frames=frames, height=height, width=width)
