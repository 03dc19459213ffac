"""A video to begin from: redone by a strength, inside a mask only, or changed by a sampler; with any model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch

from kinoform.conditions.clip_checks import (
    by,
    check_video_given,
    check_white,
    clip_chunks,
    kept_mask,
    known_latents,
    length_told,
)
from kinoform.conditions.inputs import InputField, Inputs
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
from kinoform.conditions.resize import FLOATS, kept_part
from kinoform.conditions.standard_inputs import MASK, SOURCE_PROMPT, STRENGTH, VIDEO
from kinoform.media.types import InputVideo
from kinoform.models.codec import encode_video
from kinoform.ops.patch import Patch
from kinoform.types import Latents

NEED_VIDEO = (MASK, STRENGTH, SOURCE_PROMPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartVideo:
    """Start latents and a start level (SDEdit, Meng et al. 2021); nothing without a video.

    Black of a mask stays: its latents are re-imposed after each step, with the video's noise at that level
    (blended diffusion, Avrahami et al. 2022), and the rest is redone wholly unless the inputs say less.
    Without a mask `strength` is the default. A longer video loses its end, a shorter one shortens what is made.
    """

    strength: float = 0.7

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        return (VIDEO, *NEED_VIDEO)

    def task(self, inputs: Inputs, video: VideoSize) -> str | None:
        """v2v, or i2i where one frame is made."""
        if inputs[VIDEO] is None:
            return None
        return "i2i" if video.num_frames == 1 else "v2v"

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        """Raises UsageError for a video that is too short; warns when frames are lost or missing."""
        clip = inputs[VIDEO]
        if clip is None:
            return asked
        return replace(asked, num_frames=length_told(clip, asked, units))

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        """Raises UsageError for what needs a video and has none, or a mask that does
        not fit or is of one colour; warns when the video is resized or cropped."""
        check_video_given(inputs, *NEED_VIDEO)
        clip = inputs[VIDEO]
        if clip is None:
            return
        _tell_fit(clip, video)
        mask = inputs[MASK]
        if mask is not None:
            check_white(mask, kept_mask(mask, clip, video))

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        clip = inputs[VIDEO]
        if clip is None:
            return EncodeCost()
        held = FLOATS * units.stride[0] * clip.frames[0].nbytes
        return EncodeCost(videos=1, held=held, strength=self._strength(inputs))

    @torch.no_grad()
    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        """Raises UsageError when the mask leaves no latent cell black, which only the codec knows."""
        clip = inputs[VIDEO]
        if clip is None:
            return NOTHING
        codec = encoders.codec()
        chunks = clip_chunks(clip, video, codec.stride[0])
        start = encode_video(codec, (chunk.to(encoders.device) for chunk in chunks))
        known = self._known(inputs, video, start, codec.stride)
        return ConditionerOutput(
            constraints=LatentConstraints(init_latents=start, strength=self._strength(inputs), inpainting=known)
        )

    def _strength(self, inputs: Inputs) -> float:
        strength = inputs[STRENGTH]
        if strength is not None:
            return strength
        # A sampler that changes videos begins from the video itself, so that the mask alone does not redo it.
        return self.strength if inputs[MASK] is None or inputs[SOURCE_PROMPT] is not None else 1.0

    def _known(self, inputs: Inputs, video: VideoSize, start: Latents, stride: Patch) -> InpaintingConstraint | None:
        clip, mask = inputs[VIDEO], inputs[MASK]
        if clip is None or mask is None:
            return None
        return known_latents(mask, kept_mask(mask, clip, video), video, start, stride)


def _tell_fit(clip: InputVideo, video: VideoSize) -> None:
    """Warn of a video in another size than the one to be made."""
    if clip.size == (video.height, video.width):
        return
    rows, columns = kept_part(clip.size, (video.height, video.width))
    kept = rows.stop - rows.start, columns.stop - columns.start
    cropped = "" if kept == clip.size else f", of which the middle {by(kept)} is taken"
    warnings.warn(f"{clip.name} of {by(clip.size)}{cropped} is brought to {video.width}x{video.height}", stacklevel=3)
