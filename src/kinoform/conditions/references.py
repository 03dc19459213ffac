"""Reference images: as in-context tokens of self-attention, or as context tokens of cross-attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import (
    NOTHING,
    ConditionerOutput,
    EncodeCost,
    Encoders,
    EncoderSpecs,
    Units,
    VideoSize,
)
from kinoform.conditions.resize import FLOATS, check_shows, kept_part, signal
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES
from kinoform.errors import UsageError
from kinoform.media.types import InputImage
from kinoform.models.codec import latent_size
from kinoform.models.vision import image_features
from kinoform.ops.patch import Patch, grid_of, patches
from kinoform.ops.rope import grid_positions
from kinoform.ops.sinusoid import sinusoid
from kinoform.types import Latents

MOST = 4
MARK = 16
"""Columns that encode the position of a token, or the number of its image."""


Pixels: TypeAlias = Float[Tensor, "1 3 height width"]
Fit: TypeAlias = Callable[[InputImage, VideoSize], Pixels]
"""An image of any size in that of the video, in [-1, 1]; so its sides are always such as the model can hold."""


def on_white(image: InputImage, video: VideoSize) -> Pixels:
    """The whole image, as large as fits, in the middle of a white canvas."""
    height, width = image.size
    scale = min(video.height / height, video.width / width)
    rows = max(1, min(video.height, round(height * scale)))
    columns = max(1, min(video.width, round(width * scale)))
    canvas = torch.ones(1, 3, video.height, video.width)
    top, left = (video.height - rows) // 2, (video.width - columns) // 2
    canvas[:, :, top : top + rows, left : left + columns] = _resized(signal(image.pixels[None]), rows, columns)
    return canvas


def to_cover(image: InputImage, video: VideoSize) -> Pixels:
    """The largest part, in the middle of the image, that has the proportions of the video."""
    rows, columns = kept_part(image.size, (video.height, video.width))
    return _resized(signal(image.pixels[None, rows, columns]), video.height, video.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class _References:
    """Inputs and checks of all conditioners of references: at most `most` images, of any size.

    The images say what shall appear, as the prompt does: the negative prompt goes without them, and guidance
    strengthens both. Unless they are `required`, none is legal.
    """

    most: int = MOST
    required: bool = False

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        return (REFERENCE_IMAGES,)

    def task(self, inputs: Inputs, video: VideoSize) -> str | None:
        return "r2v" if inputs[REFERENCE_IMAGES] else None

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        return asked

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        """Raises UsageError without a required image, for more than `most`, and for one of one colour."""
        if self.required and not inputs[REFERENCE_IMAGES]:
            raise UsageError(
                "this model needs an image of what shall appear, and none is given; give it as a reference",
                code="input_missing",
            )
        if len(inputs[REFERENCE_IMAGES]) > self.most:
            raise UsageError(
                f"{len(inputs[REFERENCE_IMAGES])} references are given; this model reads at most {self.most}",
                code="too_many",
            )
        check_shows(inputs[REFERENCE_IMAGES])

    def _count(self, inputs: Inputs) -> int:
        """Count the images; in a plan without any, those that there must be."""
        return len(inputs[REFERENCE_IMAGES]) or int(self.required)


@dataclass(frozen=True, slots=True, kw_only=True)
class InContextReferences(_References):
    """Latents of each image by itself, for a branch such as `InContextImages`.

    Without images the branch is left out, and the model is the one without it.
    """

    branch: str = "references"
    fit: Fit = on_white

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        count = self._count(inputs)
        size = latent_size(encoders.codec, 1, video.height, video.width)
        images = tuple(torch.empty(1, encoders.codec.channels, *size, device="meta") for _ in range(count))
        branches = {self.branch: images} if count else {}
        return EncodeCost(stills=count, held=_held(inputs), branches=branches, dropped_for_cfg=frozenset({self.branch}))

    @torch.no_grad()
    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        if not inputs[REFERENCE_IMAGES]:
            return NOTHING
        latents = tuple(latents_of(image, video, encoders, self.fit) for image in inputs[REFERENCE_IMAGES])
        return ConditionerOutput(branches={self.branch: latents}, dropped_for_cfg=frozenset({self.branch}))


@runtime_checkable
class ImageFeatures(Protocol):
    """Features [1, n, width] of an image for cross-attention; `estimate` is the cost of one image."""

    @property
    def width(self) -> int: ...
    def estimate(self, source: str, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost: ...
    def __call__(self, image: InputImage, video: VideoSize, encoders: Encoders) -> Float[Tensor, "1 n w"]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFeatures:
    """Patches of an image's latents, each with its row and column: detail as the codec keeps it."""

    channels: int = 16
    patch: Patch = (1, 2, 2)
    fit: Fit = on_white

    @property
    def width(self) -> int:
        return self.channels * self.patch[0] * self.patch[1] * self.patch[2] + 2 * MARK

    def estimate(self, source: str, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        sides = video.height, video.width
        rows, columns = (s // n // p for s, n, p in zip(sides, units.stride[1:], self.patch[1:], strict=True))
        return EncodeCost(stills=1, context={source: torch.empty(1, rows * columns, self.width, device="meta")})

    def __call__(self, image: InputImage, video: VideoSize, encoders: Encoders) -> Float[Tensor, "1 n w"]:
        latents = latents_of(image, video, encoders, self.fit)
        _, row, column = grid_positions(grid_of(latents, self.patch)).T
        positions = torch.cat([sinusoid(row, MARK), sinusoid(column, MARK)], dim=-1).to(latents.device)
        return torch.cat([patches(latents, self.patch), positions[None]], dim=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionFeatures:
    """Features of the image encoder for the whole image, stretched to its square: meaning rather than detail."""

    width: int = 1280

    def estimate(self, source: str, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        count = 0 if encoders.image is None else encoders.image.tokens
        return EncodeCost(images=1, context={source: torch.empty(1, count, self.width, device="meta")})

    def __call__(self, image: InputImage, video: VideoSize, encoders: Encoders) -> Float[Tensor, "1 n w"]:
        return image_features(encoders.image(), signal(image.pixels[None]).to(encoders.device)).float()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextReferences(_References):
    """Features of all images, each with its image's number, for a context source such as `ReferenceContext`.

    The source must be `width` wide. Without images it is left out, and the model is the one without it.
    """

    features: ImageFeatures = field(default_factory=LatentFeatures)
    source: str = "reference"

    @property
    def width(self) -> int:
        return self.features.width + MARK

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        one, count = self.features.estimate(self.source, video, units, encoders), self._count(inputs)
        length = one.context[self.source].shape[1]
        features = torch.empty(1, count * length, self.width, device="meta")
        return replace(
            one,
            stills=count * one.stills,
            images=count * one.images,
            held=_held(inputs),
            context={self.source: features} if count else {},
            dropped_for_cfg=frozenset({self.source}),
        )

    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        if not inputs[REFERENCE_IMAGES]:
            return NOTHING
        features = self.read(inputs[REFERENCE_IMAGES], video, encoders)
        return ConditionerOutput(context={self.source: features}, dropped_for_cfg=frozenset({self.source}))

    @torch.no_grad()
    def read(self, images: Sequence[InputImage], video: VideoSize, encoders: Encoders) -> Float[Tensor, "1 n w"]:
        """Return the features of one or more images, one behind the other."""
        result: list[Tensor] = []
        for number, image in enumerate(images):
            features = self.features(image, video, encoders)
            mark = sinusoid(features.new_full(features.shape[:2], number), MARK)
            result.append(torch.cat([features, mark], dim=-1))
        return torch.cat(result, dim=1)


def latents_of(image: InputImage, video: VideoSize, encoders: Encoders, fit: Fit = on_white) -> Latents:
    """One latent frame [1, c, 1, h, w] of an image in the video's size."""
    latents, _ = encoders.codec().encode(fit(image, video)[:, :, None].to(encoders.device))
    return latents


def _resized(pixels: Pixels, height: int, width: int) -> Float[Tensor, "1 3 rows columns"]:
    sized = F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return sized.clamp(-1, 1)


def _held(inputs: Inputs) -> int:
    return max((FLOATS * image.pixels.nbytes for image in inputs[REFERENCE_IMAGES]), default=0)
