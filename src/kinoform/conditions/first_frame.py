"""The first latent frame as an image: it stays clean while those behind it are denoised.

Source: the official Wan 2.2 TI2V-5B pipeline.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from kinoform.conditions.clip_checks import by
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.known_frames import image_of_frame_0
from kinoform.conditions.protocols import (
    NOTHING,
    ConditionerOutput,
    EncodeCost,
    Encoders,
    EncoderSpecs,
    InpaintingConstraint,
    LatentConstraints,
    Units,
    VideoSize,
)
from kinoform.conditions.resize import FLOATS, Size, kept_part, signal
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, MASK
from kinoform.errors import UsageError
from kinoform.media.types import InputImage
from kinoform.models.codec import latent_size
from kinoform.ops.patch import Patch


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstFrame:
    """Latents of an image as the first latent frame: its tokens are at timestep 0, and it is imposed again after each
    step; nothing without an image.

    The video takes the legal size that comes nearest to the proportions of the image, in the area that is asked for,
    unless `exact_size` keeps the size; the image covers it, and what stands out is cropped. `max_aspect` is the largest
    ratio of the sides of an image. The official program has no such limit, and makes a video of 32x17312 of an image of
    3x1000. `patch` is that of the transformer.
    """

    max_aspect: float = 4.0
    patch: Patch = (1, 2, 2)

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        return (FRAMES, EXACT_SIZE)

    def task(self, inputs: Inputs, video: VideoSize) -> str | None:
        return "i2v" if inputs[FRAMES] else None

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        """Raises UsageError as `check`, and for an area too small for the proportions of the image."""
        image = self._image(inputs, asked)
        if image is None or inputs[EXACT_SIZE]:
            return asked
        height, width = best_fit(image.size, asked.height * asked.width, units.side)
        if not height or not width:
            raise UsageError(
                f"{image.name} of {by(image.size)} is too narrow for a video with the area of "
                f"{by((asked.height, asked.width))}; crop it, or pass --exact-size",
                code="image_too_narrow",
            )
        return replace(asked, height=height, width=width)

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        """Raises UsageError for an image of another frame, for one that is too narrow, for a video that is nothing but
        the image, and for a mask beside it; warns of an image that is cropped."""
        image = self._image(inputs, video)
        if image is None:
            return
        if (mask := inputs[MASK]) is not None:
            raise UsageError(
                f"{image.name} says what the first frame is, and {mask.name} what stays of a video; give one of them",
                code="inputs_conflict",
            )
        if video.num_frames == 1:
            raise UsageError(
                f"{image.name} is the first frame, and no other is asked for; give --frames more than 1",
                code="frames_missing",
            )
        rows, columns = kept_part(image.size, (video.height, video.width))
        kept = rows.stop - rows.start, columns.stop - columns.start
        if kept != image.size:
            shape = f"{by(kept)}, the proportions of {by((video.height, video.width))}"
            warnings.warn(f"{image.name} of {by(image.size)} is cropped to {shape}", stacklevel=2)

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        image = self._image(inputs, video)
        if image is None:
            return EncodeCost()
        held = FLOATS * max(image.pixels.nbytes, 3 * video.height * video.width)
        size = latent_size(encoders.codec, video.num_frames, video.height, video.width)
        return EncodeCost(stills=1, held=held, clean=self._first_tokens(size, torch.device("meta")))

    @torch.no_grad()
    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        image = self._image(inputs, video)
        if image is None:
            return NOTHING
        codec = encoders.codec()
        latents, _ = codec.encode(covering(image, (video.height, video.width)).to(encoders.device))
        frames, *sides = latent_size(codec, video.num_frames, video.height, video.width)
        first = torch.arange(frames, device=latents.device) == 0
        known = InpaintingConstraint(
            latents=latents.expand(-1, -1, frames, -1, -1), mask=first[None, None, :, None, None], noised=False
        )
        clean = self._first_tokens((frames, sides[0], sides[1]), latents.device)
        return ConditionerOutput(clean=clean, constraints=LatentConstraints(inpainting=known))

    def _image(self, inputs: Inputs, video: VideoSize) -> InputImage | None:
        """Return the image of the first frame. Raises UsageError for others, and for one that is too narrow."""
        image = image_of_frame_0(inputs[FRAMES], video.num_frames, "an image of frame 0 alone")
        if image is not None and max(image.size) > self.max_aspect * min(image.size):
            raise UsageError(
                f"{image.name} of {by(image.size)} is too narrow: its longer side may be at most "
                f"{self.max_aspect:g} times its shorter one; crop it",
                code="image_too_narrow",
            )
        return image

    def _first_tokens(self, latents: tuple[int, int, int], device: torch.device) -> Bool[Tensor, " l"]:
        """True for the tokens of the first latent frame of a video with latents of (frames, height, width)."""
        frames, height, width = (size // part for size, part in zip(latents, self.patch, strict=True))
        return torch.arange(frames * height * width, device=device) < height * width


def best_fit(proportions: Size, area: int, sides: tuple[int, int]) -> Size:
    """The size of about `area` pixels, and not more, in multiples of `sides`, that is nearest to these proportions.

    Two are compared, one with the width rounded down first, one with the height; of equally near ones the second is
    taken. A side is 0 where nothing fits. Rounded in floating point as the official code rounds: of 500x501 pixels
    the video is the higher one, of 500x500 the wider.
    """
    aspect = proportions[1] / proportions[0]
    width = (area * aspect) ** 0.5
    wide = _floor(width, sides[1])
    tall = _floor(area / width, sides[0])
    if not wide or not tall:
        return 0, 0
    candidates = (tall, _floor(area / tall, sides[1])), (_floor(area / wide, sides[0]), wide)
    return min(candidates, key=lambda size: _distortion(aspect, size))


def covering(image: InputImage, size: Size) -> Float[Tensor, "1 3 1 height width"]:
    """Pixels in [-1, 1] of an image that is scaled to cover `size`, with what stands out cropped on either side.

    Lanczos of Pillow on 8 bits, as the official code does.
    """
    (height, width), (tall, wide) = image.size, size
    scale = max(wide / width, tall / height)
    whole = Image.fromarray(image.pixels).resize(
        (round(width * scale), round(height * scale)), Image.Resampling.LANCZOS
    )
    left, top = (whole.width - wide) // 2, (whole.height - tall) // 2
    return signal(np.asarray(whole.crop((left, top, left + wide, top + tall)))[None])[:, :, None]


def _floor(side: float, unit: int) -> int:
    return int(side // unit) * unit


def _distortion(aspect: float, size: Size) -> float:
    """Return by how much the aspect of a size differs, as a factor of 1 or more; infinite for an empty size."""
    if not all(size):
        return float("inf")
    own = size[1] / size[0]
    return max(aspect / own, own / aspect)
