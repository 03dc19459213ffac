"""An image as the first latent frame: the size it asks for, what is encoded, what stays clean, what is refused."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from kinoform.conditions.first_frame import FirstFrame, best_fit, covering
from kinoform.conditions.inputs import NO_INPUTS
from kinoform.conditions.protocols import (
    NOTHING,
    Conditioner,
    EncodeCost,
    EncoderSpecs,
    EstimatesCost,
    Units,
    VideoSize,
)
from kinoform.conditions.resize import signal
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES
from kinoform.media.types import Mask
from kinoform.models.vae22 import VAE22Spec
from kinoform.types import Level
from tests.conditions.in_hand import InHand, image, random_module
from tests.support.named_inputs import named
from tests.support.narrowing import some
from tests.support.refusals import refused

UNITS = Units(stride=(4, 16, 16), patch=(1, 2, 2))
CODEC = VAE22Spec(dim=4, decoder_dim=4, channels=48)
VIDEO = VideoSize(num_frames=9, height=64, width=96)
LARGE = VideoSize(num_frames=121, height=704, width=1280)
FITTING = image(1, 64, 96)


def test_protocols_are_kept() -> None:
    way = FirstFrame()
    assert isinstance(way, Conditioner) and isinstance(way, EstimatesCost) and way.inputs == (FRAMES, EXACT_SIZE)
    assert way.task(named(frames={0: FITTING}), VIDEO) == "i2v" and way.task(NO_INPUTS, VIDEO) is None


def test_without_an_image_nothing_is_given() -> None:
    way, specs = FirstFrame(), EncoderSpecs(codec=CODEC)
    way.check(NO_INPUTS, VIDEO)
    assert way.size(NO_INPUTS, VIDEO, UNITS) == VIDEO
    assert way.encode(NO_INPUTS, VIDEO, InHand()) is NOTHING
    assert way.estimate(NO_INPUTS, VIDEO, UNITS, specs) == EncodeCost()


def test_the_first_latent_frame_is_that_of_the_image_alone() -> None:
    """Its latents are those of a video of one frame, the same at every level; the other frames are left alone."""
    codec = random_module(CODEC)
    given = FirstFrame().encode(named(frames={0: FITTING}), VIDEO, InHand(made_codec=codec))
    wanted, _ = codec.encode(signal(FITTING.pixels[None])[:, :, None])
    known, (x, noise) = some(given.constraints.inpainting), torch.randn(2, 1, 48, 3, 4, 6)
    for sigma in (1.0, 0.4, 0.0):
        found = known.impose(x, Level(sigma=sigma, timestep=1000 * sigma), noise)
        assert torch.equal(found[:, :, :1], wanted) and torch.equal(found[:, :, 1:], x[:, :, 1:])
    assert given.clean is not None and given.clean.tolist() == [True] * 6 + [False] * 12
    assert given.negative().clean is given.clean and given.channels is None and not given.context


def test_a_plan_counts_one_still_and_the_tokens_that_are_clean() -> None:
    cost = FirstFrame().estimate(named(frames={0: FITTING}), LARGE, UNITS, EncoderSpecs(codec=CODEC))
    assert (cost.stills, cost.videos, some(cost.clean).shape) == (1, 0, (31 * 22 * 40,))
    assert cost.held >= 12 * 704 * 1280, "pixels of the video's size are held in float32"


SIZES = [
    ((500, 501), (928, 960), (608, 640)),
    ((501, 500), (960, 928), (640, 608)),
    ((500, 500), (960, 928), (640, 608)),
    ((800, 600), (1088, 800), (704, 544)),
    ((1600, 1200), (1088, 800), (704, 544)),
    ((160, 88), (1280, 704), (832, 480)),
]
"""Width and height of an image, and of videos with the area of 1280x704 and of 832x480, by the official program."""


@pytest.mark.parametrize(("given", "large", "small"), SIZES)
def test_the_size_is_the_nearest_of_two(given: tuple[int, int], large: tuple[int, int], small: tuple[int, int]) -> None:
    inputs = named(frames={0: image(1, given[1], given[0])})
    for asked, wanted in ((LARGE, large), (VideoSize(num_frames=5, height=480, width=832), small)):
        found = FirstFrame().size(inputs, asked, UNITS)
        assert (found.width, found.height, found.num_frames) == (*wanted, asked.num_frames)
        turned = VideoSize(num_frames=asked.num_frames, height=asked.width, width=asked.height)
        assert FirstFrame().size(inputs, turned, UNITS) == found, "the size gives the area alone"
    assert FirstFrame().size(named(frames={0: image(1, given[1], given[0])}, exact_size=True), LARGE, UNITS) == LARGE


def test_every_size_is_legal_and_within_the_area() -> None:
    drawn = np.random.default_rng(1)
    for height, width in drawn.integers(1, 4000, (300, 2)).tolist():
        if max(height, width) <= 4 * min(height, width):
            for area in (64 * 64, 480 * 832, 704 * 1280):
                tall, wide = best_fit((height, width), area, (32, 32))
                assert tall * wide <= area and tall % 32 == wide % 32 == 0
                assert 0.4 < (wide / tall) / (width / height) < 2.5 or not tall * wide or area == 64 * 64


def test_an_image_covers_the_video_and_loses_equal_parts_on_either_side() -> None:
    """Without scaling it is pixels of the image themselves."""
    wide = image(3, 64, 160)
    assert torch.equal(covering(wide, (64, 96))[:, :, 0], signal(wide.pixels[None, :, 32:128]))
    tall = image(4, 101, 96)
    assert torch.equal(covering(tall, (64, 96))[:, :, 0], signal(tall.pixels[None, 18:82]))
    assert covering(image(5, 37, 53), (64, 96)).shape == (1, 3, 1, 64, 96)


def test_cropping_is_said() -> None:
    wide = image(7, 64, 128)
    with pytest.warns(UserWarning, match=r"^7\.png of 128x64 is cropped to 96x64, the proportions of 96x64$"):
        FirstFrame().check(named(frames={0: wide}, exact_size=True), VIDEO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FirstFrame().check(named(frames={0: FITTING}), VIDEO)


NARROW = image(6, 3, 1000)
MASK = Mask(values=np.zeros((1, 64, 96), np.uint8))


@pytest.mark.parametrize(
    ("inputs", "code", "words"),
    [
        ({"frames": {-1: FITTING}}, "input_not_taken", ("1.png", "frame 8")),
        ({"frames": {0: FITTING, 4: image(2, 64, 96)}}, "input_not_taken", ("2.png", "frame 4")),
        ({"frames": {9: FITTING}}, "frame_outside_video", ("1.png",)),
        ({"frames": {0: NARROW}}, "image_too_narrow", ("6.png", "1000x3", "4")),
        ({"frames": {0: NARROW}, "exact_size": True}, "image_too_narrow", ("6.png", "1000x3")),
        ({"frames": {0: FITTING}, "mask": MASK}, "inputs_conflict", ("1.png",)),
    ],
)
def test_what_the_model_does_not_take_is_refused(inputs: dict[str, Any], code: str, words: tuple[str, ...]) -> None:
    with refused(code, *words):
        FirstFrame().check(named(**inputs), VIDEO)


def test_sizes_that_cannot_be_are_refused() -> None:
    """An image of 4 to 1 is the narrowest; the area of a token has room for none of another shape."""
    token = VideoSize(num_frames=5, height=32, width=32)
    with refused("image_too_narrow", "8.png", "32x32"):
        FirstFrame().size(named(frames={0: image(8, 20, 30)}), token, UNITS)
    narrowest = named(frames={0: image(9, 100, 400)})
    assert FirstFrame().size(narrowest, LARGE, UNITS) == VideoSize(num_frames=121, height=448, width=1888)
    with refused("image_too_narrow"):
        FirstFrame().size(named(frames={0: image(9, 100, 401)}), LARGE, UNITS)
    with refused("frames_missing", "1.png"):
        FirstFrame().check(named(frames={0: FITTING}), VideoSize(num_frames=1, height=64, width=96))
