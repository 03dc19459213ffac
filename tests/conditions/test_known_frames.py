"""Any frames of a video as images: what the channels hold, whatever the order and the way they are named in."""

import warnings
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames, in_video_order, packed_mask
from kinoform.conditions.protocols import (
    Conditioner,
    EncodeCost,
    Encoders,
    EncoderSpecs,
    LatentConstraints,
    Units,
    VideoSize,
)
from kinoform.conditions.resize import fitted, signal
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES
from kinoform.media.types import InputImage
from kinoform.models.codec import Codec, IdentityCodec
from kinoform.models.vae import VAESpec
from kinoform.types import Level
from tests.conditions.in_hand import CODECS, InHand, image, random_module
from tests.support.named_inputs import named
from tests.support.refusals import refused

WAN = Units(stride=(4, 8, 8), patch=(1, 2, 2))
VIDEO = VideoSize(num_frames=9, height=16, width=24)
A, B, C = (image(seed, VIDEO.height, VIDEO.width) for seed in (1, 2, 3))


def channels(
    frames: dict[int, InputImage], codec: Codec | None = None, video: VideoSize = VIDEO, **more: Any
) -> Tensor:
    encoders = InHand(made_codec=codec or IdentityCodec())
    given = KnownFrames().encode(named(frames=frames, **more), video, encoders)
    assert given.channels is not None and not given.context and given.constraints.prefix_frames == 0
    return given.channels


def test_protocols_are_kept() -> None:
    assert isinstance(KnownFrames(), Conditioner) and isinstance(InHand(), Encoders)
    assert KnownFrames().inputs == (
        FRAMES,
        EXACT_SIZE,
    )


# The mask


@pytest.mark.parametrize("known", [(0,), (0, 80), (80,), (1,), (4, 5), (0, 40, 41, 79), tuple(range(81)), ()])
@pytest.mark.parametrize("time", [1, 2, 4])
def test_a_channel_says_whether_its_frame_is_known(known: tuple[int, ...], time: int) -> None:
    """By hand: latent frame 0 holds frame 0 alone, repeated; each later one the next `time` frames."""
    found = packed_mask(known, 81, time)
    assert found.shape == (time, 1 + 80 // time)
    held = [[0] * time] + [list(range(1 + time * j, 1 + time * j + time)) for j in range(80 // time)]
    for j, frames in enumerate(held):
        for k, frame in enumerate(frames):
            assert found[k, j] == (frame in known)


def test_the_masks_of_released_models() -> None:
    """Image to video: all of latent frame 0; first and last frame: and channel 3 alone of the last one."""
    expected = torch.zeros(4, 21)
    expected[:, 0] = 1
    assert torch.equal(packed_mask([0], 81, 4), expected)
    expected[3, 20] = 1
    assert torch.equal(packed_mask([80, 0], 81, 4), expected)


# The video behind it


@pytest.mark.parametrize("places", [(0,), (0, 8), (5,), (0, 3, 4, 8), tuple(range(9))])
def test_known_frames_are_shown_in_grey(places: tuple[int, ...]) -> None:
    """With pixels as their own latents: one channel of mask, then the video, 0 where nothing is known."""
    shown = {place: image(10 + place, VIDEO.height, VIDEO.width) for place in places}
    found = channels(shown)
    expected = torch.zeros(1, 4, 9, VIDEO.height, VIDEO.width)
    for place, each in shown.items():
        expected[0, 0, place] = 1
        expected[0, 1:, place] = signal(each.pixels[None])[0]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("time", CODECS)
def test_mask_then_latents_of_the_whole_video(time: str) -> None:
    codec = random_module(CODECS[time])
    found = channels({0: A, 5: B, 8: C}, codec)
    video = torch.zeros(1, 3, 9, VIDEO.height, VIDEO.width)
    for place, each in ((0, A), (5, B), (8, C)):
        video[:, :, place] = signal(each.pixels[None])
    latents, _ = codec.encode(video)
    mask = packed_mask([0, 5, 8], 9, int(time))
    assert found.shape[1] == int(time) + CODECS[time].channels
    assert (found[:, : int(time)] == mask[None, :, :, None, None]).all()
    assert (found[:, int(time) :] - latents).abs().max() < 1e-5 * latents.abs().max()


@pytest.mark.parametrize("time", CODECS)
def test_the_video_arrives_in_chunks(time: str) -> None:
    """However long it is, no more than one latent frame's worth is held at a time."""
    codec, seen = random_module(CODECS[time]), []
    encode = codec.encode
    codec.encode = lambda pixels, history=None: seen.append(pixels.shape[2]) or encode(pixels, history)
    channels({0: A}, codec)
    assert seen == [1] + [int(time)] * (8 // int(time))


def test_a_video_of_one_frame() -> None:
    found = channels({-1: A}, random_module(CODECS["4"]), VideoSize(num_frames=1, height=16, width=24))
    assert found.shape == (1, 20, 1, 2, 3) and (found[:, :4] == 1).all()


# Which frame is meant, in which order


def test_frames_count_from_either_end_in_any_order() -> None:
    codec = random_module(CODECS["4"])
    wanted = channels({0: A, 3: B, 8: C}, codec)
    for order in permutations([(0, A), (-6, B), (-1, C)]):
        assert torch.equal(channels(dict(order), codec), wanted)
    assert not torch.equal(channels({0: A, 3: C, 8: B}, codec), wanted), "which image is where matters"
    assert list(in_video_order({-1: A, 0: B, 4: C}, 9)) == [0, 4, 8]


def test_the_same_bytes_twice() -> None:
    codec = random_module(CODECS["4"])
    assert torch.equal(channels({0: A, 8: B}, codec), channels({0: A, 8: B}, codec))


# Sizes


@pytest.mark.parametrize(
    ("asked", "size"),
    [((480, 832), (464, 832)), ((832, 480), (464, 832)), ((720, 1280), (720, 1248)), ((600, 600), (448, 784))],
)
def test_the_video_takes_the_proportions_of_its_first_image(asked: tuple[int, int], size: tuple[int, int]) -> None:
    """The size has the area asked for, and the proportions of the first image of the video, not of the mapping."""
    frames = {-1: image(1, 100, 50), 0: image(2, 480, 832)}
    video = VideoSize(num_frames=81, height=asked[0], width=asked[1])
    found = KnownFrames().size(Inputs({FRAMES: frames}), video, WAN)
    assert (found.num_frames, found.height, found.width) == (81, *size)
    assert KnownFrames().size(Inputs({FRAMES: frames, EXACT_SIZE: True}), video, WAN) == video


def test_the_first_image_fills_the_video() -> None:
    """Whole, though the video's proportions are rounded to tokens; images of its proportions likewise."""
    first, second = image(1, 33, 50), image(2, 66, 100)
    found = channels({0: first, 5: second})
    for place, each in ((0, first), (5, second)):
        expected = fitted(each.pixels[None], (16, 24), proportions=each.size)
        assert torch.equal(found[:, 1:, place], expected)


def test_other_images_are_cropped_to_the_first() -> None:
    """They show what they show in the middle: a border that the first has no room for is not seen."""
    middle = image(1, 32, 48)
    wide = torch.zeros(32, 80, 3, dtype=torch.uint8).numpy()
    wide[:, 16:64] = middle.pixels
    found = channels({0: image(2, 16, 24), 3: InputImage(pixels=wide)})
    assert torch.equal(found[:, :, 3], channels({0: image(2, 16, 24), 3: middle})[:, :, 3])


def test_an_exact_size_crops_the_first_too() -> None:
    tall = torch.zeros(96, 48, 3, dtype=torch.uint8).numpy()
    tall[32:64] = image(1, 32, 48).pixels
    found = channels({0: InputImage(pixels=tall)}, exact_size=True)
    assert torch.equal(found, channels({0: image(1, 32, 48)}))
    assert not torch.equal(found, channels({0: InputImage(pixels=tall)}))


def test_cropping_is_said() -> None:
    wide = image(7, 16, 80)
    for shown in (Inputs({FRAMES: {0: A, 1: wide}}), Inputs({FRAMES: {0: wide}, EXACT_SIZE: True})):
        with pytest.warns(UserWarning, match=r"^7\.png of 80x16 is cropped to 24x16, the proportions of 24x16$"):
            KnownFrames().check(shown, VIDEO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KnownFrames().check(Inputs({FRAMES: {0: wide, 1: image(8, 32, 160)}}), VIDEO)


# Where images may be missing, and where what is known stays


@pytest.mark.parametrize("time", CODECS)
def test_without_images_every_channel_is_zero(time: str) -> None:
    """Not the latents of a grey video, which would reach the patch embedding."""
    codec, way = random_module(CODECS[time]), KnownFrames(required=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert way.size(Inputs(), VIDEO, WAN) == VIDEO
        way.check(Inputs(), VIDEO)
    found, told = way.encode(Inputs(), VIDEO, InHand(made_codec=codec)).channels, channels({0: A}, codec)
    assert found is not None and found.shape == told.shape and found.dtype == told.dtype and not found.any()
    encoders = EncoderSpecs(codec=VAESpec())
    assert (
        way.estimate(Inputs(), VIDEO, WAN, encoders)
        == EncodeCost()
        != KnownFrames().estimate(Inputs(), VIDEO, WAN, encoders)
    )


def test_optional_images_are_given_as_required_ones() -> None:
    inputs, encoders = Inputs({FRAMES: {0: A, 8: B}}), InHand(made_codec=random_module(CODECS["4"]))
    for more in ({"required": False}, {"impose": True}, {"required": False, "impose": True}):
        found, wanted = (way.encode(inputs, VIDEO, encoders) for way in (KnownFrames(**more), KnownFrames()))
        assert found.channels is not None and wanted.channels is not None and wanted.constraints == LatentConstraints()
        assert torch.equal(found.channels, wanted.channels)


@pytest.mark.parametrize(
    ("places", "kept"),
    [((0,), [0]), ((8,), []), ((0, 8), [0]), ((1, 2, 3), []), ((1, 2, 3, 4), [1]), ((0, 5, 6, 7, 8), [0, 2])],
)
def test_latent_frames_that_are_wholly_known_stay(places: tuple[int, ...], kept: list[int]) -> None:
    """Frame 0 alone is the first of them; each of the others holds four."""
    shown = {place: image(10 + place, VIDEO.height, VIDEO.width) for place in places}
    given = KnownFrames(impose=True).encode(
        Inputs({FRAMES: shown}), VIDEO, InHand(made_codec=random_module(CODECS["4"]))
    )
    known, drawn = given.constraints.inpainting, torch.Generator().manual_seed(0)
    assert given.channels is not None and (known is None) == (not kept)
    if known is None:
        return
    x, noise = torch.randn(2, *known.latents.shape, generator=drawn)
    level = Level(sigma=0.3, timestep=300.0)
    found, rest = known.impose(x, level, noise), [each for each in range(3) if each not in kept]
    assert torch.equal(found[:, :, rest], x[:, :, rest])
    wanted = (1 - level.sigma) * given.channels[:, 4:] + level.sigma * noise
    assert torch.equal(found[:, :, kept], wanted[:, :, kept])


# What is refused


def asked(frames: dict[Any, InputImage]) -> Callable[[], object]:
    def ask() -> None:
        inputs = Inputs({FRAMES: frames})
        KnownFrames().check(inputs, KnownFrames().size(inputs, VideoSize(num_frames=81, height=480, width=832), WAN))

    return ask


@pytest.mark.parametrize(
    ("frames", "code", "named"),
    [
        ({}, "input_missing", "frame 0"),
        ({81: A}, "frame_outside_video", "1.png"),
        ({0: A, -82: B}, "frame_outside_video", "2.png"),
        ({40: A, -41: B}, "frame_given_twice", "40 and -41"),
        ({True: A}, "not_a_whole_number", "True"),
        ({0: image(4, 2, 4000)}, "image_too_narrow", "--exact-size"),
        ({0: image(4, 4000, 2)}, "image_too_narrow", "4.png of 2x4000"),
    ],
    ids=["none", "beyond", "before", "twice", "truth", "flat", "tall"],
)
def test_one_sentence_before_any_weight_is_read(frames: dict[Any, InputImage], code: str, named: str) -> None:
    with refused(code, named) as caught:
        asked(frames)()
    assert "\n" not in str(caught.value)


def test_frames_at_the_edge_are_taken() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked({0: A, 80: B})()
        asked({-81: A, -1: B, 40: C})()
