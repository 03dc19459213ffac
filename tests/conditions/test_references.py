"""References: fitted to the video's size, encoded one by one, and taken in whole videos by either door."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import NOTHING, Conditioner, Units, VideoSize
from kinoform.conditions.references import (
    MARK,
    ContextReferences,
    InContextReferences,
    LatentFeatures,
    VisionFeatures,
    latents_of,
    on_white,
    to_cover,
)
from kinoform.conditions.resize import signal
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES
from kinoform.loading.additions import Additions, with_additions
from kinoform.media.types import InputImage
from kinoform.models.context import ReferenceContext
from kinoform.models.in_context import InContextImages
from kinoform.models.vision import image_features
from kinoform.pipelines.pipeline import Pipeline
from tests.conditions.in_hand import CODECS, VISION, InHand, image, random_module
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny, tiny_pipeline, write_tiny_folder

VIDEO = VideoSize(num_frames=5, height=16, width=24)
CODEC = random_module(CODECS["2"])
ENCODERS = InHand(made_codec=CODEC, made_image=random_module(VISION))
ROWS = LatentFeatures(channels=5)
A, B, C = image(1, 16, 24), image(2, 30, 20), image(3, 11, 90)


def plain(colour: tuple[int, int, int], height: int, width: int) -> InputImage:
    return InputImage(pixels=np.full((height, width, 3), colour, dtype=np.uint8))


def shown(*images: InputImage) -> Inputs:
    return Inputs({REFERENCE_IMAGES: images})


# Fitting


@pytest.mark.parametrize("size", [(16, 24), (1, 1), (7, 1), (1, 999), (500, 3), (160, 240), (17, 23)])
@pytest.mark.parametrize("fit", [on_white, to_cover])
def test_any_image_gets_the_size_of_the_video_in_range(fit: Callable, size: tuple[int, int]) -> None:
    found = fit(image(4, *size), VIDEO)
    assert found.shape == (1, 3, 16, 24) and found.dtype == torch.float32
    assert found.min() >= -1 and found.max() <= 1


@pytest.mark.parametrize("fit", [on_white, to_cover])
def test_a_image_of_the_video_s_size_is_itself(fit: Callable) -> None:
    assert torch.equal(fit(A, VIDEO), signal(A.pixels[None]))


def test_on_white_the_whole_image_stands_in_the_middle() -> None:
    tall = on_white(plain((0, 0, 0), 32, 16), VIDEO)  # becomes 16x8
    assert tall[..., 8:16].max() < -0.999 and (tall[..., :8] == 1).all() and (tall[..., 16:] == 1).all()
    wide = on_white(plain((0, 0, 0), 6, 48), VIDEO)  # becomes 3x24
    assert wide[:, :, 6:9].max() < -0.999 and (wide[:, :, :6] == 1).all() and (wide[:, :, 9:] == 1).all()


def test_covering_cuts_the_sides_and_keeps_the_middle() -> None:
    pixels = np.zeros((16, 96, 3), dtype=np.uint8)
    pixels[:, 36:60] = 255
    assert to_cover(InputImage(pixels=pixels), VIDEO).min() > 0.999


def test_a_shrunk_image_is_smoothed() -> None:
    """Every second column black: without antialiasing one of the two would win."""
    pixels = np.zeros((160, 240, 3), dtype=np.uint8)
    pixels[:, ::2] = 255
    found = on_white(InputImage(pixels=pixels), VIDEO)
    assert found[..., 2:-2].abs().max() < 0.1


# InContextTokens


def test_the_protocol_is_kept() -> None:
    for each in (InContextReferences(), ContextReferences()):
        assert isinstance(each, Conditioner) and each.inputs == (REFERENCE_IMAGES,)
        assert each.size(shown(C), VIDEO, Units(stride=(4, 8, 8), patch=(1, 2, 2))) == VIDEO


def test_every_image_is_one_latent_frame_by_itself() -> None:
    given = InContextReferences().encode(shown(A, B, C), VIDEO, ENCODERS)
    assert given.branches.keys() == {"references"} and not given.context and given.channels is None
    found = given.branches["references"]
    for latents, each in zip(found, (A, B, C), strict=True):
        assert latents.shape == (1, 5, 1, 8, 12)
        alone = InContextReferences().encode(shown(each), VIDEO, ENCODERS).branches["references"]
        assert torch.equal(latents, alone[0])


def test_the_fit_and_the_branch_are_the_recipe_s_choice() -> None:
    given = InContextReferences(branch="subject", fit=to_cover).encode(shown(C), VIDEO, ENCODERS)
    latents, _ = CODEC.encode(to_cover(C, VIDEO)[:, :, None])
    assert torch.equal(given.branches["subject"][0], latents)
    assert not torch.equal(latents, latents_of(C, VIDEO, ENCODERS))


@pytest.mark.parametrize(
    "conditioner", [InContextReferences(), ContextReferences(features=ROWS)], ids=["guests", "rows"]
)
def test_no_image_gives_nothing_and_too_many_are_refused(conditioner: Conditioner) -> None:
    conditioner.check(shown(), VIDEO)
    conditioner.check(shown(A, B, C, A), VIDEO)
    assert conditioner.encode(shown(), VIDEO, ENCODERS) is NOTHING
    with refused("too_many", "5", "4"):
        conditioner.check(shown(A, B, C, A, B), VIDEO)
    with refused("image_uniform"):
        conditioner.check(shown(A, InputImage(pixels=np.full((9, 9, 3), 127, np.uint8))), VIDEO)


# Rows


def rows(*images: InputImage, source: LatentFeatures | VisionFeatures = ROWS) -> Tensor:
    conditioner = ContextReferences(features=source)
    given = conditioner.encode(shown(*images), VIDEO, ENCODERS)
    found = given.context["reference"]
    assert (
        given.context.keys() == {"reference"} and found.shape[2] == conditioner.width and found.dtype == torch.float32
    )
    return found


def test_latent_rows_are_the_patches_each_beside_its_place() -> None:
    found, latents = rows(B)[0], latents_of(B, VIDEO, ENCODERS)
    assert len(found) == 4 * 6
    naive = torch.stack([
        latents[0, :, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
        for row in range(4)
        for column in range(6)
    ])  # fmt: skip
    assert torch.equal(found[:, : 5 * 4], naive)
    places = found[:, 5 * 4 : -MARK]
    assert all((one - other).abs().max() > 1e-2 for one, other in combinations(places, 2)), "every place has its mark"


def test_rows_of_several_images_differ_in_their_number_alone() -> None:
    alone, both = rows(A), rows(A, A)
    assert torch.equal(both[:, : alone.shape[1]], alone)
    second = both[:, alone.shape[1] :]
    assert torch.equal(second[..., :-MARK], alone[..., :-MARK])
    assert (second[..., -MARK:] - alone[..., -MARK:]).abs().max() > 0.1


def test_image_rows_are_those_of_the_image_encoder() -> None:
    found = rows(B, C, source=VisionFeatures(width=VISION.dim))
    assert found.shape[1] == 2 * VISION.tokens
    assert torch.equal(found[:, : VISION.tokens, :-MARK], image_features(ENCODERS.image(), signal(B.pixels[None])))
    with refused("weights"):
        ContextReferences(features=VisionFeatures()).encode(shown(B), VIDEO, InHand(made_codec=CODEC))


# Whole videos


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


def guests(folder: Path) -> Pipeline:
    return widened(folder, InContextReferences(), Additions(branches=(InContextImages(),)))


def stream(folder: Path) -> Pipeline:
    made = ContextReferences(features=LatentFeatures(channels=tiny().codec.channels))
    return widened(folder, made, Additions(context=(ReferenceContext(width=made.width),)))


def widened(folder: Path, conditioner: Conditioner, additions: Additions) -> Pipeline:
    pipeline = tiny_pipeline(folder, conditioners=(conditioner,), additions=additions)
    return replace(pipeline, parts=with_additions(pipeline.parts, additions, pipeline.recipe.transformers))


def latents(pipe: Pipeline, *images: InputImage, seed: int = 7, **changes: object) -> Tensor:
    asked = pipe.request("a red ball moves left", seed=seed, inputs=shown(*images), **changes)
    return next(pipe.latents([asked], lambda progress: None))


def test_a_video_with_guests_follows_them_and_is_always_the_same(folder: Path) -> None:
    pipe, base = guests(folder), tiny_pipeline(folder)
    assert torch.equal(latents(pipe), latents(base)), "without images it is the base's video"
    videos = [latents(pipe, *each) for each in ((A,), (B,), (A, B), (B, A))]
    assert all(video.shape == latents(base).shape and video.isfinite().all() for video in videos)
    assert all((one - other).abs().max() > 1e-3 for one, other in combinations(videos, 2))
    assert torch.equal(latents(guests(folder), A, B), videos[2])


def test_a_stream_that_was_added_leaves_whole_videos_as_they_were(folder: Path) -> None:
    pipe, base = stream(folder), tiny_pipeline(folder)
    for guidance_scale in (1.0, 4.0):
        assert torch.equal(
            latents(pipe, A, C, guidance_scale=guidance_scale), latents(base, guidance_scale=guidance_scale)
        )
    opened = pipe.parts.transformer(torch.float32, torch.device("cpu"))
    opened.get_parameter("blocks.0.cross_attention.streams.reference.gate").fill_(0.5)
    open_pipe = replace(pipe, parts=replace(pipe.parts, transformers=(lambda dtype, device: opened,)))
    videos = [latents(open_pipe, A), latents(open_pipe, C), latents(open_pipe, A, C), latents(base)]
    assert all((one - other).abs().max() > 1e-4 for one, other in combinations(videos, 2)), "an open gate admits it"


@pytest.mark.parametrize("door", [guests, stream])
def test_one_request_of_several_gives_what_it_gives_alone(folder: Path, door: Callable[[Path], Pipeline]) -> None:
    pipe = door(folder)
    asked = [
        pipe.request("a red ball moves left", seed=7 + number, inputs=shown(*images))
        for number, images in enumerate([(A, B), (), (C,)])
    ]
    together = list(pipe.latents(asked, lambda progress: None))
    assert all(
        torch.equal(each, next(pipe.latents([one], lambda progress: None)))
        for one, each in zip(asked, together, strict=True)
    )


def test_references_for_a_model_without_that_door_are_refused(folder: Path) -> None:
    with refused("input_not_taken"):
        tiny_pipeline(folder).request("a ball", seed=1, inputs=shown(A))
