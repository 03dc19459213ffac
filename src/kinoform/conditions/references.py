"""Images of what shall appear: as guests of self-attention, or as rows of a stream of their own."""

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
from kinoform.models.vision import image_rows
from kinoform.ops.patch import Patch, grid_of, patches
from kinoform.ops.rope import grid_positions
from kinoform.ops.sinusoid import sinusoid
from kinoform.types import Latents

MOST = 4
MARK = 16
"""Columns that tell a row's place, or its image's number."""


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
    """Inputs and checks that all conditioners of references share: at most `most` images, of any size.

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
class ReferenceTokens(_References):
    """Latents of each image by itself, for a branch such as `ReferenceGuests`.

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
        found = tuple(latents_of(image, video, encoders, self.fit) for image in inputs[REFERENCE_IMAGES])
        return ConditionerOutput(branches={self.branch: found}, dropped_for_cfg=frozenset({self.branch}))


@runtime_checkable
class RowsOf(Protocol):
    """Encoding of an image as rows [1, n, width] for cross-attention; `estimate` is the cost of one image."""

    @property
    def width(self) -> int: ...
    def estimate(self, stream: str, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost: ...
    def __call__(self, image: InputImage, video: VideoSize, encoders: Encoders) -> Float[Tensor, "1 n w"]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentRows:
    """Patches of the image's latents, each beside its row and its column: detail as the codec keeps it."""

    channels: int = 16
    patch: Patch = (1, 2, 2)
    fit: Fit = on_white

    @property
    def width(self) -> int:
        return self.channels * self.patch[0] * self.patch[1] * self.patch[2] + 2 * MARK

    def estimate(self, stream: str, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        sides = video.height, video.width
        rows, columns = (s // n // p for s, n, p in zip(sides, units.stride[1:], self.patch[1:], strict=True))
        return EncodeCost(stills=1, context={stream: torch.empty(1, rows * columns, self.width, device="meta")})

    def __call__(self, image: InputImage, video: VideoSize, encoders: Encoders) -> Float[Tensor, "1 n w"]:
        latents = latents_of(image, video, encoders, self.fit)
        _, row, column = grid_positions(grid_of(latents, self.patch)).T
        places = torch.cat([sinusoid(row, MARK), sinusoid(column, MARK)], dim=-1).to(latents.device)
        return torch.cat([patches(latents, self.patch), places[None]], dim=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRows:
    """Features of the image encoder for the whole image, stretched to its square: meaning rather than detail."""

    width: int = 1280

    def estimate(self, stream: str, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        rows = 0 if encoders.image is None else encoders.image.rows
        return EncodeCost(images=1, context={stream: torch.empty(1, rows, self.width, device="meta")})

    def __call__(self, image: InputImage, video: VideoSize, encoders: Encoders) -> Float[Tensor, "1 n w"]:
        return image_rows(encoders.image(), signal(image.pixels[None]).to(encoders.device)).float()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRows(_References):
    """Rows of all images, each beside its image's number, for a stream such as `ReferenceStream`.

    The stream must be `width` wide. Without images it is left out, and the model is the one without it.
    """

    rows: RowsOf = field(default_factory=LatentRows)
    stream: str = "reference"

    @property
    def width(self) -> int:
        return self.rows.width + MARK

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        each, count = self.rows.estimate(self.stream, video, units, encoders), self._count(inputs)
        return replace(
            each,
            stills=count * each.stills,
            images=count * each.images,
            held=_held(inputs),
            context={
                name: torch.empty(1, count * rows.shape[1], self.width, device="meta")
                for name, rows in each.context.items()
                if count
            },
            dropped_for_cfg=frozenset({self.stream}),
        )

    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        if not inputs[REFERENCE_IMAGES]:
            return NOTHING
        rows = self.read(inputs[REFERENCE_IMAGES], video, encoders)
        return ConditionerOutput(context={self.stream: rows}, dropped_for_cfg=frozenset({self.stream}))

    @torch.no_grad()
    def read(self, images: Sequence[InputImage], video: VideoSize, encoders: Encoders) -> Float[Tensor, "1 n w"]:
        """The rows of one or more images, one behind the other."""
        found = []
        for number, image in enumerate(images):
            rows = self.rows(image, video, encoders)
            mark = sinusoid(rows.new_full(rows.shape[:2], number), MARK)
            found.append(torch.cat([rows, mark], dim=-1))
        return torch.cat(found, dim=1)


def latents_of(image: InputImage, video: VideoSize, encoders: Encoders, fit: Fit = on_white) -> Latents:
    """One latent frame [1, c, 1, h, w] of an image in the video's size."""
    latents, _ = encoders.codec().encode(fit(image, video)[:, :, None].to(encoders.device))
    return latents


def _resized(pixels: Pixels, height: int, width: int) -> Float[Tensor, "1 3 rows columns"]:
    sized = F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return sized.clamp(-1, 1)


def _held(inputs: Inputs) -> int:
    return max((FLOATS * image.pixels.nbytes for image in inputs[REFERENCE_IMAGES]), default=0)
