"""Frames before a video beside a video to begin from and what is known of it, whichever conditioners give them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import (
    ConditionerOutput,
    Encoders,
    InpaintingConstraint,
    LatentConstraints,
    Units,
    VideoSize,
)
from kinoform.conditions.video_to_video import StartVideo
from kinoform.media.types import InputVideo
from kinoform.pipelines.pipeline import Pipeline
from kinoform.types import Latents
from tests.support.named_inputs import named
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny_pipeline

PROMPT = "a red ball moves left"
CLIP = InputVideo(frames=np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8))
IMAGES = torch.randn(1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(2))
VIDEO = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
"""Latents of two images, and of a video of five frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """Gives a canvas, whatever the inputs are."""

    constraints: LatentConstraints

    @property
    def inputs(self) -> tuple[InputField[object], ...]:
        return ()

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        return asked

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        return None

    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        return ConditionerOutput(constraints=self.constraints)


BEFORE = Handed(constraints=LatentConstraints(prefix_frames=2, prefix_latents=IMAGES))


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return tiny_pipeline(folder, num_frames=5)


def made(pipe: Pipeline, *conditioners: object, **inputs: object) -> Latents:
    asked = replace(pipe, recipe=replace(pipe.recipe, conditioners=conditioners))  # type: ignore[arg-type]
    request = asked.request(PROMPT, seed=7, steps=6, inputs=named(**inputs))  # type: ignore[arg-type]
    return next(asked.latents([request], lambda progress: None))


def test_a_start_stands_behind_the_images_before_it(pipe: Pipeline) -> None:
    """In either order of the conditioners, as if one of them had given all of it."""
    beside = [made(pipe, *ways, video=CLIP, strength=0.5) for ways in ((StartVideo(), BEFORE), (BEFORE, StartVideo()))]
    assert torch.equal(*beside) and beside[0].shape == (1, 4, 3, 8, 8)
    assert not torch.equal(beside[0], made(pipe, StartVideo(), video=CLIP, strength=0.5))
    whole = made(
        pipe,
        Handed(constraints=LatentConstraints(prefix_frames=2, prefix_latents=IMAGES, init_latents=VIDEO, strength=0.5)),
    )
    assert torch.equal(
        whole, made(pipe, BEFORE, Handed(constraints=LatentConstraints(init_latents=VIDEO, strength=0.5)))
    )


def test_what_is_known_of_a_video_stays_behind_frames_before_it(pipe: Pipeline) -> None:
    """The middle latent frame is known; without frames before it as well."""
    mask = torch.tensor([False, True, False])[None, None, :, None, None]
    known = Handed(constraints=LatentConstraints(inpainting=InpaintingConstraint(latents=VIDEO, mask=mask)))
    for ways in ((known,), (BEFORE, known)):
        found = made(pipe, *ways)
        assert torch.allclose(found[:, :, 1], VIDEO[:, :, 1], atol=1e-6)
        assert not torch.allclose(found[:, :, 0], VIDEO[:, :, 0], atol=0.1)


def test_a_start_behind_frames_that_nobody_knows_is_refused(pipe: Pipeline) -> None:
    unknown = Handed(constraints=LatentConstraints(prefix_frames=2))
    assert made(pipe, unknown).shape == (1, 4, 3, 8, 8)
    with refused("conditioners_conflict", "2"):
        made(pipe, unknown, StartVideo(), video=CLIP, strength=0.5)
