"""VACE: a video to follow or to change, where it changes, and references, for the VACE blocks.

Source: VACE (Jiang et al., 2025), with the official Wan 2.1 pipeline.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from kinoform.conditions.clip_checks import WHITE, by, check_same, check_video_given
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import (
    ConditionerOutput,
    EncodeCost,
    Encoders,
    EncoderSpecs,
    LatentConstraints,
    Units,
    VideoSize,
)
from kinoform.conditions.resize import Size, check_shows
from kinoform.conditions.standard_inputs import CONTEXT_SCALE, MASK, REFERENCE_IMAGES, STRENGTH, VIDEO
from kinoform.conditions.vace_latents import (
    control_size,
    covering,
    grey_halves,
    on_white,
    packed,
    packed_mask,
    reference_latents,
    shown_frames,
    video_halves,
    video_latents,
)
from kinoform.errors import UsageError
from kinoform.media.types import InputVideo, Mask
from kinoform.models.codec import latent_size
from kinoform.models.vace_blocks import VaceContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Vace:
    """Input of the VACE blocks, the branch `branch`; without a video and a mask, everything is to be made.

    A video counts with all of its frames, whatever its rate; as many are shown as there is room for, evenly.
    References stand as latent frames before the video, are denoised with it and cut off. With a strength below 1
    it is begun from the video and its references, not from noise alone.
    """

    branch: str = "vace"

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        return (VIDEO, MASK, REFERENCE_IMAGES, STRENGTH, CONTEXT_SCALE)

    @property
    def every_frame(self) -> bool:
        return True

    def task(self, inputs: Inputs, video: VideoSize) -> str | None:
        return "vace" if inputs[VIDEO] is not None or inputs[REFERENCE_IMAGES] else None

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        """Return the size of the video that is given, within the number of tokens of `asked`; `asked` without one.

        Raises UsageError for a video too short or too small for any.
        """
        clip = inputs[VIDEO]
        if clip is None:
            return asked
        name, frames, least = clip.name, len(clip.frames), 1 + units.stride[0]
        if frames < least:
            raise UsageError(
                f"{name} has {frames} frames; a video to follow or to change has {least} at least",
                code="video_too_short",
            )
        video = control_size(frames, clip.size, asked, units)
        if not video.height:
            smallest = f"{units.side[1]}x{units.side[0]}"
            raise UsageError(
                f"{name} is {by(clip.size)}; a video to follow or to change is {smallest} at least",
                code="video_too_small",
            )
        return video

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        """Raises UsageError for a mask that does not fit its video, a strength without a video, and a reference of one
        colour.

        Warns of a video that is resized, cropped or sampled.
        """
        mask = inputs[MASK]
        if mask is not None:
            check_mask(mask, inputs[VIDEO])
        check_video_given(inputs, STRENGTH)
        check_shows(inputs[REFERENCE_IMAGES])
        clip, made = inputs[VIDEO], (video.height, video.width)
        if clip is not None and (len(clip.frames), clip.size) != (video.num_frames, made):
            was, becomes = f"{len(clip.frames)} frames of {by(clip.size)}", f"{video.num_frames} of {by(made)}"
            warnings.warn(f"{clip.name} of {was} is read as {becomes}", stacklevel=2)

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        lead, codec = len(inputs[REFERENCE_IMAGES]), encoders.codec
        frames, *sides = latent_size(codec, video.num_frames, video.height, video.width)
        control = torch.empty(1, 2 * codec.channels + prod(codec.stride[1:]), lead + frames, *sides, device="meta")
        pixels = video.num_frames * video.height * video.width
        redone = _redone(inputs)
        return EncodeCost(
            videos=1 if inputs[VIDEO] is None else 2 if redone is None else 3,
            stills=lead,
            held=0 if inputs[VIDEO] is None else 4 * pixels,  # red, green, blue and mask, a byte each
            branches={self.branch: VaceContext(latents=control)},
            prefix_frames=lead,
            strength=redone,
        )

    @torch.no_grad()
    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        codec, device, size = encoders.codec(), encoders.device, (video.height, video.width)
        redone, start, clip = _redone(inputs), None, inputs[VIDEO]
        if clip is None:
            mask = _everywhere(video.num_frames, size)
            halves = grey_halves(codec, video, device)
        else:
            places = shown_frames(len(clip.frames), video.num_frames)
            mask = _fitted(inputs[MASK], places, size)
            frames = covering((clip.frames[place] for place in places), size)
            halves = video_halves(codec, frames, mask, device)
            start = None if redone is None else video_latents(codec, frames, device)
        images = [on_white(image.pixels, size) for image in inputs[REFERENCE_IMAGES]]
        references = list(reference_latents(codec, images, device))
        control = VaceContext(
            latents=packed(halves, references, packed_mask(mask, codec.stride)),
            scale=inputs[CONTEXT_SCALE],
        )
        shown = [each[:, : codec.channels] for each in references]
        constraints = LatentConstraints(
            prefix_frames=len(shown),
            prefix_latents=torch.cat(shown, dim=2) if shown else None,
            init_latents=start,
            strength=1.0 if redone is None else redone,
        )
        return ConditionerOutput(branches={self.branch: control}, constraints=constraints)


def check_mask(mask: Mask, video: InputVideo | None) -> None:
    """Raise UsageError for a mask without a video, of another size or length than its video, or without white."""
    if video is None:
        raise UsageError(
            f"{mask.name} says where a video changes, and no video is given; give the video as well",
            code="input_missing",
        )
    check_same(mask, video)
    if not (mask.values >= WHITE).any():
        raise UsageError(f"{mask.name} has no white, so nothing would change; white is what changes", code="mask_empty")


def _redone(inputs: Inputs) -> float | None:
    """The strength of a start from the video; None for one from noise alone."""
    return None if inputs[VIDEO] is None or inputs[STRENGTH] in (None, 1) else inputs[STRENGTH]


def _everywhere(frames: int, size: Size) -> UInt8[Tensor, "t height width"]:
    return torch.full((), 255, dtype=torch.uint8).expand(frames, *size)


def _fitted(mask: Mask | None, places: list[int], size: Size) -> UInt8[Tensor, "t height width"]:
    """A mask in the frames and the size of a video, resized as the video is."""
    if mask is None:
        return _everywhere(len(places), size)
    frames = [0] if len(mask.values) == 1 else places
    values = covering((mask.values[place, :, :, None] for place in frames), size)
    return values[:, 0].expand(len(places), -1, -1)
