"""A video to change as input channels: where it may change, and what it shows, on the grid of the video."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinoform.conditions.clip_checks import (
    check_video_given,
    check_white,
    clip_chunks,
    kept_mask,
    known_latents,
    length_told,
)
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
from kinoform.conditions.resize import FLOATS
from kinoform.conditions.standard_inputs import MASK, VIDEO
from kinoform.media.types import InputVideo, Mask
from kinoform.models.codec import encode_video, latent_size
from kinoform.ops.patch import Patch


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceChannels:
    """Channels behind the noisy latents: the share of each latent cell that may change, then the video's latents.

    Without a mask all of it may change. What a mask leaves black is kept: its latents are re-imposed after each step.
    Without a video all channels are 0, so that a patch embedding reads nothing.
    """

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        """See `Conditioner`."""
        return (VIDEO, MASK)

    def task(self, inputs: Inputs, video: VideoSize) -> str | None:
        """Return v2v where a video is given."""
        return None if inputs[VIDEO] is None else "v2v"

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        """Raises UsageError for a video that is too short; warns when frames are lost or missing."""
        clip = inputs[VIDEO]
        return asked if clip is None else replace(asked, num_frames=length_told(clip, asked, units))

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        """Raises UsageError for a mask without a video, or one that does not fit it or is of one colour."""
        check_video_given(inputs, MASK)
        clip, mask = inputs[VIDEO], inputs[MASK]
        if clip is not None and mask is not None:
            check_white(mask, kept_mask(mask, clip, video))

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        """See `EstimatesCost`."""
        clip = inputs[VIDEO]
        if clip is None:
            return EncodeCost()
        return EncodeCost(videos=1, held=FLOATS * units.stride[0] * clip.frames[0].nbytes)

    @torch.no_grad()
    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        """Raises UsageError when a mask leaves no latent cell black, which only the codec knows."""
        codec, clip, mask = encoders.codec(), inputs[VIDEO], inputs[MASK]
        if clip is None:
            size = latent_size(codec, video.num_frames, video.height, video.width)
            return ConditionerOutput(channels=torch.zeros(1, 1 + codec.channels, *size, device=encoders.device))
        chunks = clip_chunks(clip, video, codec.stride[0])
        latents = encode_video(codec, (chunk.to(encoders.device) for chunk in chunks))
        if mask is None:
            return ConditionerOutput(channels=torch.cat([torch.ones_like(latents[:, :1]), latents], dim=1))
        share = changing_share(mask, clip, video, codec.stride)
        kept = known_latents(mask, kept_mask(mask, clip, video), video, latents, codec.stride)
        return ConditionerOutput(
            channels=torch.cat([share.to(latents), latents], dim=1), constraints=LatentConstraints(inpainting=kept)
        )


def changing_share(mask: Mask, clip: InputVideo, video: VideoSize, stride: Patch) -> Float[Tensor, "1 1 f h w"]:
    """Return the share of the pixels of each latent cell that are white in the mask, in 0..1.

    The first latent frame has one frame, each other as many as the codec's stride.
    """
    white = torch.as_tensor(kept_mask(mask, clip, video).astype("float32"))[:, None]
    time, *sides = stride
    frames, height, width = 1 + (video.num_frames - 1) // time, video.height, video.width
    if white.shape[2:] != (height, width):
        white = F.interpolate(white, size=(height, width), mode="bilinear", antialias=True)
    cells = F.avg_pool2d(white, tuple(sides))
    cells = cells.expand(video.num_frames, -1, -1, -1) if len(cells) == 1 else cells
    later = rearrange(cells[1 : 1 + (frames - 1) * time], "(f time) 1 h w -> 1 1 f time h w", time=time)
    return torch.cat([cells[None, None, :1, 0], later.mean(3)], dim=2)
