"""Images as context tokens for cross-attention, from the image encoder.

Source: the official Wan 2.1 image-to-video and first-last-frame pipelines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.known_frames import in_video_order
from kinoform.conditions.protocols import ConditionerOutput, EncodeCost, Encoders, EncoderSpecs, Units, VideoSize
from kinoform.conditions.resize import FLOATS, signal
from kinoform.conditions.standard_inputs import FRAMES
from kinoform.errors import UsageError
from kinoform.models.vision import image_features


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTokens:
    """The context source `image`: features of the first known frame, or of the first and the last (`images` 1 or 2).

    The images are encoded as they were given, neither resized nor cropped to the video. Raises UsageError for
    another number of images.
    """

    images: int = 1

    def __post_init__(self) -> None:
        if self.images not in (1, 2):
            raise UsageError(f"the features of 1 or 2 images are read, not of {self.images}", code="value_out_of_range")

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        return (FRAMES,)

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        return asked

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        """Raises UsageError when fewer frames are known than the model reads, and as `in_video_order`."""
        known = in_video_order(inputs[FRAMES], video.num_frames)
        if len(known) < self.images:
            needs = "an image for frame 0" if self.images == 1 else "images for frames 0 and -1"
            raise UsageError(f"this model needs {needs}, and {len(known) or 'none'} is given", code="input_missing")

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        held = max((FLOATS * image.pixels.nbytes for image in inputs[FRAMES].values()), default=0)
        if encoders.image is None:
            return EncodeCost(images=self.images, held=held)
        features = torch.empty(1, self.images * encoders.image.tokens, encoders.image.dim, device="meta")
        return EncodeCost(images=self.images, held=held, context={"image": features})

    @torch.no_grad()
    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        known = list(in_video_order(inputs[FRAMES], video.num_frames).values())
        read = known[:1] if self.images == 1 else [known[0], known[-1]]
        encoder = encoders.image()
        # One at a time: an image's features must not depend on what else is given.
        features = [image_features(encoder, signal(image.pixels[None]).to(encoders.device)) for image in read]
        return ConditionerOutput(context={"image": torch.cat(features, dim=1)})
