"""Protocols of conditioners, which turn inputs into what the transformer and the sampler are given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinoform.conditions.input_kinds import ReadOptions
from kinoform.conditions.inputs import InputField, Inputs, by_name
from kinoform.conditions.standard_inputs import STANDARD_INPUTS
from kinoform.errors import UsageError
from kinoform.models.codec import Codec, CodecSpec
from kinoform.models.vision import VisionEncoder, VisionSpec
from kinoform.numbers import Number, Whole
from kinoform.ops.patch import Patch
from kinoform.solvers.guidance.rule import Guidance
from kinoform.solvers.levels import noised
from kinoform.types import Conditions, InContextSegment, Latents, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSize:
    """Frames, and pixels along height and width, of a video to be made."""

    num_frames: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Units that sizes are multiples of: the codec's `stride` (time, height, width) and the transformer's `patch`."""

    stride: Patch
    patch: Patch

    @property
    def side(self) -> tuple[int, int]:
        """Pixels that one token covers along height and width."""
        return self.stride[1] * self.patch[1], self.stride[2] * self.patch[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class InpaintingConstraint:
    """Latents that are kept where `mask` is true; imposed after each step.

    `noised`: at level sigma they read (1 - sigma) latents + sigma noise, with the noise that the video began
    with; otherwise they stay clean throughout, as the first frame of Wan 2.2 TI2V does.
    """

    latents: Latents
    mask: Bool[Tensor, "#b 1 f #h #w"]
    noised: bool = True

    def impose(self, x: Latents, level: Level, noise: Latents) -> Latents:
        values = self.latents.to(x)
        if self.noised:
            values = noised(values, noise.to(x), level.sigma)
        return torch.where(self.mask.to(x.device), values, x)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentConstraints:
    """Latents that the sampler starts from and keeps.

    `prefix_frames` latent frames are denoised before the video and cut off; `prefix_latents` are what they show in the
    end, which training and `init_latents` need. `init_latents` are those of a video to begin from at `strength` in
    (0, 1] of the steps, instead of from noise alone; `inpainting` is re-imposed after each step. Neither of these two
    holds the prefix.
    """

    prefix_frames: int = 0
    prefix_latents: Float[Tensor, "b c prefix h w"] | None = None
    init_latents: Latents | None = None
    strength: float = 1.0
    inpainting: InpaintingConstraint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionerOutput:
    """Contribution of a conditioner to each extension point of the transformer; see `Conditions`. Empty by default.

    The context sources, branches and groups of segments named in `dropped_for_cfg` belong to the prompt: the negative
    prompt goes without them, so that guidance strengthens what they say.
    """

    context: Mapping[str, Float[Tensor, "_ _ _"]] = field(default_factory=dict[str, Tensor])
    channels: Latents | None = None
    clean: Bool[Tensor, " l"] | None = None
    branches: Mapping[str, Any] = field(default_factory=dict[str, Any])
    segments: tuple[InContextSegment, ...] = ()
    constraints: LatentConstraints = LatentConstraints()
    dropped_for_cfg: frozenset[str] = frozenset()

    def negative(self) -> ConditionerOutput:
        """Return what stands beside the negative prompt."""
        context = {name: tokens for name, tokens in self.context.items() if name not in self.dropped_for_cfg}
        branches = {name: payload for name, payload in self.branches.items() if name not in self.dropped_for_cfg}
        kept = self.without(self.dropped_for_cfg)
        return replace(kept, context=context, branches=branches, dropped_for_cfg=frozenset())

    def without(self, groups: Collection[str]) -> ConditionerOutput:
        """Return what is left without the segments of these groups; the others are numbered anew."""
        return replace(self, segments=tuple(item for item in self.segments if item.group not in groups))

    def conditions(self, text: Float[Tensor, "b n d"]) -> Conditions:
        """Return the transformer's conditions with the context tokens of a prompt."""
        context = {"text": text, **self.context}
        return Conditions(
            context=context,
            channels=self.channels,
            clean=self.clean,
            branches=self.branches,
            segments=self.segments,
        )


NOTHING = ConditionerOutput()


@runtime_checkable
class Encoders(Protocol):
    """The encoders of a model, each loaded when it is first asked for and dropped before the transformer comes.

    `image` raises WeightsError where the model has none.
    """

    @property
    def device(self) -> torch.device: ...
    def codec(self) -> Codec: ...
    def image(self) -> VisionEncoder: ...


@runtime_checkable
class Conditioner(Protocol):
    """Conditioning of a model, by value: a recipe lists those that its model was trained with.

    `inputs` are the fields it reads: of this package (`standard_inputs`), or its own. `size` is the video that the
    inputs ask for, where `asked` is what the request or the recipe says and `units` what it must fit; most return
    `asked`. `check` refuses, before any weight is read, inputs that are missing or do not fit the video.
    """

    @property
    def inputs(self) -> tuple[InputField[Any], ...]: ...
    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize: ...
    def check(self, inputs: Inputs, video: VideoSize) -> None: ...
    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpecs:
    """Kinds of the encoders that `Encoders` loads; `image` is None where the model has none."""

    codec: CodecSpec
    image: VisionSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeCost:
    """Cost of `Conditioner.encode`, known before anything is encoded; videos and stills have the size of the video to
    be made.

    `videos` and `stills`: whole videos and single frames for the codec; `images`: for the image encoder;
    `held`: bytes of pixels on the host meanwhile. `context`, `clean`, `branches`, `segments` and `dropped_for_cfg` are
    what `encode` will return, on the meta device; `prefix_frames`: latent frames before the video; `strength`: that of
    a video to begin from, None without.
    """

    videos: int = 0
    stills: int = 0
    images: int = 0
    held: int = 0
    context: Mapping[str, Float[Tensor, "_ _ _"]] = field(default_factory=dict[str, Tensor])
    clean: Bool[Tensor, " l"] | None = None
    branches: Mapping[str, Any] = field(default_factory=dict[str, Any])
    segments: tuple[InContextSegment, ...] = ()
    prefix_frames: int = 0
    strength: float | None = None
    dropped_for_cfg: frozenset[str] = frozenset()


@runtime_checkable
class EstimatesCost(Protocol):
    """Conditioner that states its cost.

    Inputs may be missing, as in a plan without any; then it states that of the usual case. A conditioner without this
    method works as well, but plans say that it is not counted.
    """

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost: ...


@runtime_checkable
class ChoosesFrames(Protocol):
    """Conditioner that chooses by itself which frames of a video it shows, if `every_frame` is true.

    It is handed all of them, and all frames of a mask, whatever their rate. Without this member a conditioner is
    handed videos at the frame rate of the one to be made, and no more frames than that has.
    """

    @property
    def every_frame(self) -> bool: ...


@runtime_checkable
class PicksFrames(Protocol):
    """Conditioner with a rule of its own for the frames that it is handed of a video.

    `picked` names them, of a video of `there` frames at `fps` (None: not known), for a video of at most `most` frames
    at `wanted` frames per second.
    """

    def picked(self, there: int, fps: float | None, *, wanted: Number, most: Whole) -> Sequence[int]: ...


@runtime_checkable
class PrefixesPrompt(Protocol):
    """Conditioner of a model that was trained with words before every prompt, such as the name of the task.

    `prefix` is joined to the prompt without a space; the negative prompt goes without it.
    """

    def prefix(self, inputs: Inputs, video: VideoSize) -> str: ...


@runtime_checkable
class ChoosesGuidance(Protocol):
    """Conditioner of a model whose guidance depends on what it is given: `guidance_rule` is that of a request which
    says none; None leaves the recipe's.
    """

    def guidance_rule(self, inputs: Inputs, video: VideoSize) -> Guidance | None: ...


def rule_for(conditioners: Iterable[Conditioner], inputs: Inputs, video: VideoSize) -> Guidance | None:
    """Return the guidance rule of the first conditioner that chooses one; None where none does."""
    rules = (item.guidance_rule(inputs, video) for item in conditioners if isinstance(item, ChoosesGuidance))
    return next((rule for rule in rules if rule is not None), None)


def read_options(
    conditioners: Iterable[Conditioner], *, fps: Number, num_frames: Whole, fit_mask: bool = False
) -> ReadOptions:
    """Return how inputs of these are read for a video of `num_frames` frames at `fps` frames per second."""
    conditioners = tuple(conditioners)
    if any(isinstance(item, ChoosesFrames) and item.every_frame for item in conditioners):
        return ReadOptions(fit_mask=fit_mask)
    picking = next((item for item in conditioners if isinstance(item, PicksFrames)), None)
    pick = None if picking is None else partial(picking.picked, wanted=fps, most=num_frames)
    return ReadOptions(fps=fps, num_frames=num_frames, fit_mask=fit_mask, pick=pick)


def prefixed(conditioners: Iterable[Conditioner], prompt: str, inputs: Inputs, video: VideoSize) -> str:
    """Return a prompt behind the words that the model was trained with before it."""
    before = "".join(item.prefix(inputs, video) for item in conditioners if isinstance(item, PrefixesPrompt))
    return before + prompt.strip() if before else prompt


def declared(conditioners: Iterable[Conditioner], reserved: Iterable[str] = ()) -> tuple[InputField[Any], ...]:
    """Return the inputs that conditioners read, each once.

    Raises UsageError where two that differ share a name, one has that of another input of this package, or a
    `reserved` one.
    """
    fields = tuple(dict.fromkeys(field for conditioner in conditioners for field in conditioner.inputs))
    by_name((*STANDARD_INPUTS, *fields), reserved)
    return fields


def readable(conditioners: Iterable[Conditioner]) -> tuple[InputField[Any], ...]:
    """Return the inputs that may be named for a model with these: also those of this package that it does not take.

    A request refuses these later, and names the models that take them.
    """
    return tuple(dict.fromkeys((*STANDARD_INPUTS, *declared(conditioners))))


@runtime_checkable
class NamesTask(Protocol):
    """Conditioner that names the task where it takes part, such as i2v; `task` is None where it does not."""

    def task(self, inputs: Inputs, video: VideoSize) -> str | None: ...


def task_of(conditioners: Iterable[Conditioner], inputs: Inputs, video: VideoSize) -> str:
    """Return the task for the metadata: that of the first conditioner that names one, else t2v or t2i."""
    tasks = (item.task(inputs, video) for item in conditioners if isinstance(item, NamesTask))
    return next((task for task in tasks if task is not None), "t2i" if video.num_frames == 1 else "t2v")


def together(parts: Iterable[ConditionerOutput]) -> ConditionerOutput:
    """Join all contributions: channels and segments one behind the other in order, everything else at most once.

    Raises UsageError when two contribute the same.
    """
    result = ConditionerOutput()
    for part in parts:
        channels = [item for item in (result.channels, part.channels) if item is not None]
        result = ConditionerOutput(
            context=_union("context source", result.context, part.context),
            channels=torch.cat(channels, dim=1) if channels else None,
            clean=_one("clean tokens", result.clean, part.clean),
            branches=_union("branch", result.branches, part.branches),
            segments=result.segments + part.segments,
            constraints=_constraints(result.constraints, part.constraints),
            dropped_for_cfg=result.dropped_for_cfg | part.dropped_for_cfg,
        )
    return result


def _constraints(one: LatentConstraints, other: LatentConstraints) -> LatentConstraints:
    return LatentConstraints(
        prefix_frames=one.prefix_frames + other.prefix_frames,
        prefix_latents=_one("latents before the video", one.prefix_latents, other.prefix_latents),
        init_latents=_one("latents to begin from", one.init_latents, other.init_latents),
        strength=min(one.strength, other.strength),
        inpainting=_one("known latents", one.inpainting, other.inpainting),
    )


def _union(what: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    if twice := one.keys() & other.keys():
        raise UsageError(
            f"two conditioners fill the {what} {sorted(twice)[0]!r}; leave one out of the recipe",
            code="conditioners_conflict",
        )
    return {**one, **other}


def _one(what: str, one: Any, other: Any) -> Any:
    if one is not None and other is not None:
        raise UsageError(f"two conditioners give {what}; leave one out of the recipe", code="conditioners_conflict")
    return other if one is None else one
