"""Rows of known frames for cross-attention, and whole videos from images that enter by both doors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kinoform.conditions.image_tokens import ImageTokens
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import Conditioner, Units, VideoSize
from kinoform.conditions.resize import signal
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES
from kinoform.media.types import InputImage
from kinoform.models.context import ImageContext
from kinoform.models.vision import image_features
from kinoform.pipelines.pipeline import Pipeline
from tests.conditions.in_hand import VISION, InHand, image, random_module
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny, tiny_pipeline, write_tiny_folder

pytestmark = pytest.mark.filterwarnings("ignore:.* is cropped to")

VIDEO = VideoSize(num_frames=9, height=16, width=24)
A, B, C = image(1, 16, 24), image(2, 30, 20), image(3, 11, 90)
ENCODERS = InHand(made_image=random_module(VISION))


def rows(frames: dict[int, InputImage], images: int) -> Tensor:
    given = ImageTokens(images=images).encode(Inputs({FRAMES: frames}), VIDEO, ENCODERS)
    assert given.context.keys() == {"image"} and given.channels is None
    return given.context["image"]


def test_the_protocol_is_kept() -> None:
    tokens = ImageTokens()
    assert isinstance(tokens, Conditioner) and tokens.inputs == (FRAMES,)
    assert tokens.size(Inputs({FRAMES: {0: C}}), VIDEO, Units(stride=(4, 8, 8), patch=(1, 2, 2))) == VIDEO


def test_the_first_known_image_is_read_as_it_was_given() -> None:
    alone = image_features(ENCODERS.image(), signal(B.pixels[None]))
    assert alone.shape == (1, VISION.tokens, VISION.dim)
    for frames in ({0: B}, {4: C, 2: B}, {-1: A, -2: B}):
        assert torch.equal(rows(frames, 1), alone)


def test_first_and_last_stand_in_the_order_of_the_video() -> None:
    first, last = (image_features(ENCODERS.image(), signal(each.pixels[None])) for each in (A, B))
    both = torch.cat([first, last], dim=1)
    assert both.shape[1] == 2 * VISION.tokens and not torch.equal(first, last)
    for frames in ({0: A, 8: B}, {-1: B, 0: A}, {8: B, 4: C, 0: A}):
        assert torch.equal(rows(frames, 2), both)


@pytest.mark.parametrize(
    ("images", "frames", "code", "named"),
    [
        (1, {}, "input_missing", "frame 0"),
        (2, {}, "input_missing", "0 and -1"),
        (2, {0: A}, "input_missing", "0 and -1"),
        (2, {0: A, 9: B}, "frame_outside_video", "2.png"),
        (2, {8: A, -1: B}, "frame_given_twice", "8 and -1"),
    ],
)
def test_one_sentence_before_any_weight_is_read(
    images: int, frames: dict[int, InputImage], code: str, named: str
) -> None:
    with refused(code, named):
        ImageTokens(images=images).check(Inputs({FRAMES: frames}), VIDEO)


@pytest.mark.parametrize("images", [0, 3, -1])
def test_models_read_one_image_or_two(images: int) -> None:
    with refused("value_out_of_range", str(images)):
        ImageTokens(images=images)


# Whole videos


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Pipeline of the tiny model with a first and a last image: 2 channels of mask, 4 of latents, and image tokens."""
    base, images = tiny(), 2
    stream = ImageContext(width=VISION.dim, positions=images * VISION.tokens)
    spec = replace(base.transformer, in_channels=4 + 2 + 4, context=(*base.transformer.context, stream))
    plain = tiny_pipeline(
        write_tiny_folder(tmp_path_factory.mktemp("tiny") / "model"),
        transformers=(spec,),
        conditioners=(KnownFrames(), ImageTokens(images=images)),
    )
    parts = replace(
        plain.parts,
        transformer_specs=(spec,),
        transformers=(lambda dtype, device: random_module(spec),),
        image_encoder=lambda dtype, device: random_module(VISION),
    )
    return replace(plain, parts=parts)


def latents(pipe: Pipeline, *given: Inputs) -> list[Tensor]:
    asked = [pipe.request("a red ball", seed=seed, inputs=each) for seed, each in enumerate(given)]
    return [each.clone() for each in pipe.latents(asked, lambda progress: None)]


SHOWN = Inputs({FRAMES: {0: A, -1: B}})


def test_the_same_request_twice_gives_the_same_bytes(pipe: Pipeline) -> None:
    asked = pipe.request("a red ball", seed=4, inputs=SHOWN)
    assert (asked.height, asked.width) == (12, 16), "256 pixels in the proportions of 16x24, in tokens of 4"
    videos = []
    for _ in range(2):
        made = next(pipe.latents([asked], lambda progress: None))
        videos.append(pipe.video(asked, made, lambda progress: None).frames)
    assert videos[0].shape == (3, 12, 16, 3) and videos[0].std() > 1
    assert videos[0].tobytes() == videos[1].tobytes()


def test_a_video_of_a_batch_is_the_video_made_alone(pipe: Pipeline) -> None:
    others, more = Inputs({FRAMES: {0: B, 1: C}, EXACT_SIZE: True}), Inputs({FRAMES: {0: C, 2: A}})
    first, second, third = latents(pipe, SHOWN, others, SHOWN)
    assert second.shape != first.shape and not torch.equal(first, third), "sizes and seeds differ"
    assert torch.equal(latents(pipe, SHOWN)[0], first)
    assert torch.equal(latents(pipe, more, others)[1], second)


@pytest.mark.parametrize(
    "change",
    [
        lambda shown: {**shown, 0: image(9, 16, 24)},
        lambda shown: {**shown, -1: image(9, 30, 20)},
        lambda shown: {**shown, 1: C},
        lambda shown: {0: shown[-1], -1: shown[0]},
    ],
    ids=["first", "last", "between", "exchanged"],
)
def test_every_image_shows_in_the_video(
    pipe: Pipeline, change: Callable[[dict[int, InputImage]], dict[int, InputImage]]
) -> None:
    before = Inputs({FRAMES: SHOWN[FRAMES], EXACT_SIZE: True})
    after = before | {FRAMES: change(dict(SHOWN[FRAMES]))}
    one, other = latents(pipe, before)[0], latents(pipe, after)[0]
    assert (one - other).abs().max() > 1e-3 * one.abs().max()


def test_images_are_missed_before_anything_is_loaded(pipe: Pipeline) -> None:
    with refused("input_missing"):
        pipe.request("a red ball", seed=1)
    with refused("input_missing", "0 and -1"):
        pipe.request("a red ball", seed=1, inputs=Inputs({FRAMES: {0: A}}))


def test_a_model_without_the_door_names_those_that_have_it(tmp_path: Path) -> None:
    plain = tiny_pipeline(write_tiny_folder(tmp_path / "model"))
    with refused("input_not_taken", "mini:frames, mini:context, i2v-14b-480p"):
        plain.request("a red ball", seed=1, inputs=SHOWN)
