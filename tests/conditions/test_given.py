"""What every conditioner gives can be learned from: ordinary tensors, without a history of their own."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinoform.conditions.image_tokens import ImageTokens
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import Conditioner, VideoSize
from kinoform.conditions.references import ContextReferences, InContextReferences, VisionFeatures
from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES, STRENGTH
from kinoform.conditions.standard_inputs import VIDEO as VIDEO_INPUT
from kinoform.conditions.vace import Vace
from kinoform.conditions.video_to_video import StartVideo
from kinoform.media.types import InputVideo, Mask
from tests.conditions.in_hand import CODECS, VISION, InHand, image, random_module

VIDEO = VideoSize(num_frames=9, height=16, width=32)
CLIP = InputVideo(frames=np.random.default_rng(1).integers(0, 256, (9, 16, 32, 3), dtype=np.uint8))
HALF = Mask(values=np.repeat(np.array([0, 255], np.uint8), 16)[None, None].repeat(16, axis=1))
IMAGE = image(2, 16, 32)
ENCODERS = InHand(made_codec=random_module(CODECS["4"]), made_image=random_module(VISION))

WAYS = {
    "known frames": (KnownFrames(impose=True), Inputs({FRAMES: {0: IMAGE}})),
    "no known frames": (KnownFrames(required=False), Inputs()),
    "image tokens": (ImageTokens(), Inputs({FRAMES: {0: IMAGE}})),
    "vace": (Vace(), Inputs({VIDEO_INPUT: CLIP, MASK: HALF, REFERENCE_IMAGES: (IMAGE,), STRENGTH: 0.5})),
    "start video": (StartVideo(), Inputs({VIDEO_INPUT: CLIP, MASK: HALF})),
    "guests": (InContextReferences(), Inputs({REFERENCE_IMAGES: (IMAGE,)})),
    "latent rows": (ContextReferences(), Inputs({REFERENCE_IMAGES: (IMAGE,)})),
    "image rows": (ContextReferences(features=VisionFeatures(width=VISION.dim)), Inputs({REFERENCE_IMAGES: (IMAGE,)})),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_weight_can_learn_from_what_is_given(name: str) -> None:
    way, inputs = WAYS[name]
    assert isinstance(way, Conditioner)
    found = [item for item in tensors(way.encode(inputs, VIDEO, ENCODERS)) if item.is_floating_point()]
    assert found and not any(item.requires_grad for item in found)
    weight = torch.ones((), requires_grad=True)
    torch.stack([(weight * item).square().sum() for item in found]).sum().backward()
    assert weight.grad is not None and weight.grad.isfinite()


def tensors(value: Any) -> Iterator[Tensor]:
    """All that a value holds, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)
    elif is_dataclass(value):
        yield from tensors([getattr(value, each.name) for each in fields(value)])
