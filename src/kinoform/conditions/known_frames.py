"""Known frames as channels: the first, the last, or any frames of a video are given as images.

Source: the official Wan 2.1 image-to-video and first-last-frame pipelines, which know frame 0, or 0 and the last.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinoform.conditions.clip_checks import by
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import (
    ConditionerOutput,
    EncodeCost,
    Encoders,
    EncoderSpecs,
    InpaintingConstraint,
    LatentConstraints,
    Units,
    VideoSize,
)
from kinoform.conditions.resize import FLOATS, Size, fitted, kept_part, size_of_area
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES
from kinoform.errors import UsageError
from kinoform.media.types import InputImage
from kinoform.models.codec import Pixels, encode_video, latent_size
from kinoform.numbers import whole_of


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFrames:
    """Channels behind the noisy latents: which frames are known, then the latents of a video that shows these.

    The video takes the proportions of its first known image, in the area that is asked for, unless
    `exact_size` keeps the size. Images of other proportions are cropped in the middle.

    Unless they are `required`, no images is legal: mask and latents are 0, so that a patch embedding reads nothing.
    With `impose`, latent frames all of whose frames are known also stay what the codec made of them, to which the
    unknown frames before are mid-grey.
    """

    required: bool = True
    impose: bool = False

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        return (FRAMES, EXACT_SIZE)

    def task(self, inputs: Inputs, video: VideoSize) -> str | None:
        """i2v from the first frame, flf2v from the first and the last, frames2v from others."""
        known = set(in_video_order(inputs[FRAMES], video.num_frames))
        if not known:
            return None
        if known == {0}:
            return "i2v"
        return "flf2v" if known == {0, video.num_frames - 1} else "frames2v"

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        """Raises UsageError as `in_video_order`, and for an image whose video would be less than a token wide."""
        if inputs[EXACT_SIZE] or not inputs[FRAMES]:
            return asked
        first = _first(in_video_order(inputs[FRAMES], asked.num_frames))
        height, width = size_of_area(first.size, asked.height * asked.width, units)
        if not height or not width:
            raise UsageError(
                f"{first.name} of {by(first.size)} is too narrow for a video with the area of "
                f"{by((asked.height, asked.width))}; crop it, or pass --exact-size",
                code="image_too_narrow",
            )
        return replace(asked, height=height, width=width)

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        """Raises UsageError as `in_video_order`, and without a required image; warns of images that are cropped."""
        if not inputs[FRAMES]:
            if not self.required:
                return
            raise UsageError(
                "this model needs an image for at least one frame, and none is given; give one for frame 0",
                code="input_missing",
            )
        known = in_video_order(inputs[FRAMES], video.num_frames)
        proportions = _proportions(known, inputs, video)
        for image in known.values():
            rows, columns = kept_part(image.size, proportions)
            kept = rows.stop - rows.start, columns.stop - columns.start
            if kept != image.size:
                shape = f"{by(kept)}, the proportions of {by(proportions)}"
                warnings.warn(f"{image.name} of {by(image.size)} is cropped to {shape}", stacklevel=2)

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        if not inputs[FRAMES] and not self.required:
            return EncodeCost()
        return EncodeCost(
            videos=1, held=max((FLOATS * each.pixels.nbytes for each in inputs[FRAMES].values()), default=0)
        )

    @torch.no_grad()
    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        codec, known = encoders.codec(), in_video_order(inputs[FRAMES], video.num_frames)
        time = codec.stride[0]
        if not known:
            size = latent_size(codec, video.num_frames, video.height, video.width)
            return ConditionerOutput(channels=torch.zeros(1, time + codec.channels, *size, device=encoders.device))
        chunks = video_of(known, video, time, proportions=_proportions(known, inputs, video))
        latents = encode_video(codec, (chunk.to(encoders.device) for chunk in chunks))
        mask = packed_mask(known, video.num_frames, time).to(latents)[None, :, :, None, None]
        # The models were trained with the mask first.
        channels = torch.cat([mask.expand(-1, -1, -1, *latents.shape[3:]), latents], dim=1)
        whole = mask.bool().all(dim=1, keepdim=True)
        kept = InpaintingConstraint(latents=latents, mask=whole) if self.impose and whole.any() else None
        return ConditionerOutput(channels=channels, constraints=LatentConstraints(inpainting=kept))


def image_of_frame_0(frames: Mapping[int, InputImage], num_frames: int, wanted: str) -> InputImage | None:
    """Return the image of frame 0, if there is one, for a model that takes no other.

    Raises UsageError as `in_video_order`, and for an image of another frame; `wanted` says what the model takes.
    """
    known = in_video_order(frames, num_frames)
    for number, image in known.items():
        if number:
            raise UsageError(
                f"{image.name} is given for frame {number}; this model takes {wanted}", code="input_not_taken"
            )
    return known.get(0)


def in_video_order(frames: Mapping[int, InputImage], num_frames: int) -> dict[int, InputImage]:
    """Images by the number of their frame, from 0, in this order.

    Raises UsageError for a number that is not whole or outside the video, and for two that are the same frame.
    """
    places: dict[int, tuple[int, InputImage]] = {}
    for asked, image in frames.items():
        number = whole_of(asked)
        if number is None:
            raise UsageError(
                f"{image.name} is given for frame {asked!r}; give a whole number", code="not_a_whole_number"
            )
        if not -num_frames <= number < num_frames:
            raise UsageError(
                f"{image.name} is given for frame {asked}, but a video of {num_frames} frames has "
                f"0 to {num_frames - 1}, or -{num_frames} to -1 from the end",
                code="frame_outside_video",
            )
        place = number % num_frames
        if place in places:
            raise UsageError(
                f"frames {places[place][0]} and {asked} of a video of {num_frames} frames are the same; "
                "give one image for it",
                code="frame_given_twice",
            )
        places[place] = number, image
    return {place: places[place][1] for place in sorted(places)}


def packed_mask(known: Iterable[int], num_frames: int, time: int) -> Float[Tensor, "time f"]:
    """1 where a frame is known: channel k of latent frame j is frame time * (j - 1) + 1 + k.

    Latent frame 0 holds one frame; all its channels say whether that is known.
    """
    mask = torch.zeros(num_frames)
    mask[list(known)] = 1
    return rearrange(torch.cat([mask[:1].expand(time - 1), mask]), "(f time) -> time f", time=time)


def video_of(known: Mapping[int, InputImage], video: VideoSize, time: int, *, proportions: Size) -> Iterator[Pixels]:
    """The known frames, mid-grey (0) elsewhere: one frame, then `time` frames at a time, as codecs take them."""
    size = video.height, video.width
    for first, after in pairwise([0, *range(1, video.num_frames + 1, time)]):
        chunk = torch.zeros(1, 3, after - first, *size)
        for place in known.keys() & range(first, after):
            chunk[:, :, place - first] = fitted(known[place].pixels[None], size, proportions=proportions)
        yield chunk


def _proportions(known: Mapping[int, InputImage], inputs: Inputs, video: VideoSize) -> Size:
    """Return the size to crop images to: the first of them fills the video, unless its size was fixed before."""
    return (video.height, video.width) if inputs[EXACT_SIZE] else _first(known).size


def _first(known: Mapping[int, InputImage]) -> InputImage:
    return next(iter(known.values()))
