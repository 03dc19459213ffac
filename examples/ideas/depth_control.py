"""An idea in one file: a depth video steers what is made, as latents on input channels that are added.

    kinoform generate "a red ball moves left" --recipe depth_control:recipe --video depth.mp4

From this folder; from the root of the repository it is `--recipe examples.ideas.depth_control:recipe`. Without a
video, and as long as nothing has been trained, the videos are those of the model itself: the added slice of the patch
embedding is zero. `recipe` widens the embedded model, `wan` the 1.3B one (`--model t2v-1.3b`).

What learns is the added slice (`LEARNS`) alone, or beside low-rank adapters (`ADAPTERS`); see
`Additions.trainable`. One file then holds both (`kinoform.api.save_adapter`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from kinoform.api import (
    VIDEO,
    Additions,
    ConditionerOutput,
    Encoders,
    InputField,
    Inputs,
    InputVideo,
    LoRASpec,
    Recipe,
    Units,
    UsageError,
    VideoSize,
    clip_chunks,
    encode_video,
    latent_size,
    t2v_1_3b,
)
from kinoform.mini import mini

NAME = "depth"
LEARNS = ("patch_embedding.weight",)
"""Parameters, as shell patterns; `Additions.mark_trainable` leaves the channels of the base without gradient."""

ADAPTERS = LoRASpec(patterns=("self_attention.*", "feed_forward.*"), rank=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthVideo:
    """Latents of a grey video, near is white, in the size and length of the video to be made; zeros without one."""

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        return (VIDEO,)

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        return asked

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        """Raises UsageError for a depth video that is shorter than the video to be made."""
        clip = inputs[VIDEO]
        if clip is not None and len(clip.frames) < video.num_frames:
            there, wanted = len(clip.frames), video.num_frames
            raise UsageError(f"{clip.name} has {there} frames, and {wanted} are to be made; ask for fewer")

    @torch.no_grad()
    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        codec = encoders.codec()
        clip = inputs[VIDEO]
        if clip is None:
            frames, height, width = latent_size(codec, video.num_frames, video.height, video.width)
            return ConditionerOutput(
                channels=torch.zeros(1, codec.channels, frames, height, width, device=encoders.device)
            )
        chunks = clip_chunks(grey(clip), video, codec.stride[0])
        return ConditionerOutput(channels=encode_video(codec, (chunk.to(encoders.device) for chunk in chunks)))


def grey(clip: InputVideo) -> InputVideo:
    """The mean of red, green and blue, in all three."""
    mean = clip.frames.mean(axis=-1, keepdims=True).round().astype(np.uint8)
    return replace(clip, frames=np.broadcast_to(mean, clip.frames.shape))


def put_onto(base: Recipe) -> Recipe:
    """Any model, with as many channels more as its codec makes."""
    added = Additions(channels={NAME: base.codec.channels})
    return replace(base, name=f"{base.name}-{NAME}", conditioners=(DepthVideo(),), additions=added)


def recipe() -> Recipe:
    return put_onto(mini())


def wan() -> Recipe:
    return put_onto(t2v_1_3b())
