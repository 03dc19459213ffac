"""VACE end to end on a tiny model: references are cut off, videos are the same alone and together; and refusals."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from kinoform.conditions.clip_checks import clip_chunks
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import Conditioner, Units, VideoSize
from kinoform.conditions.resize import signal
from kinoform.conditions.standard_inputs import CONTEXT_SCALE, MASK, REFERENCE_IMAGES, STRENGTH, VIDEO
from kinoform.conditions.vace import Vace
from kinoform.media.types import InputImage, InputVideo, Mask, Origin
from kinoform.models.codec import encode_video
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.pipelines.pipeline import Pipeline
from kinoform.types import Latents
from tests.conditions.in_hand import InHand, image
from tests.models.recorded import spread
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny, tiny_pipeline, write_tiny_folder

WAN = Units(stride=(4, 8, 8), patch=(1, 2, 2))
ASKED = VideoSize(num_frames=81, height=480, width=832)
PROMPT = "a red ball moves left"


def clip(frames: int = 9, height: int = 32, width: int = 48) -> InputVideo:
    values = np.random.default_rng(1).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    return InputVideo(frames=values, origin=Origin(file="walk.mp4", sha256="0" * 64))


def mask(frames: int = 9, height: int = 32, width: int = 48, value: int = 255) -> Mask:
    values = np.full((frames, height, width), value, np.uint8)
    return Mask(values=values, origin=Origin(file="mask.png", sha256="1" * 64))


NEARLY_GREY = 120 + np.random.default_rng(3).integers(0, 8, (20, 20, 3), dtype=np.uint8)
GREY = InputImage(pixels=NEARLY_GREY, origin=Origin(file="grey.png", sha256="2" * 64))


def sized(inputs: Inputs, asked: VideoSize = ASKED) -> VideoSize:
    video = Vace().size(inputs, asked, WAN)
    Vace().check(inputs, video)
    return video


def test_it_keeps_the_protocol() -> None:
    assert isinstance(Vace(), Conditioner)
    assert Vace().inputs == (
        VIDEO,
        MASK,
        REFERENCE_IMAGES,
        STRENGTH,
        CONTEXT_SCALE,
    )


# A whole video


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The tiny model with side blocks: 3 frames of 16x16, codec stride 2x2x2, so 2 * 4 latents and 4 of the mask."""
    folder = write_tiny_folder(tmp_path_factory.mktemp("vace") / "tiny")
    loaded = tiny_pipeline(folder, conditioners=(Vace(),))
    model = replace(tiny().transformer, layers=2, branches=(VaceBlocks(channels=12, layers=(0, 1)),)).build()
    spread(model, 3)
    parts = replace(loaded.parts, transformers=(lambda dtype, device: model.requires_grad_(False).eval(),))
    return replace(loaded, parts=parts)


def videos(pipe: Pipeline, *asked: tuple[int, Inputs]) -> list[Latents]:
    requests = [pipe.request(PROMPT, seed=seed, inputs=inputs) for seed, inputs in asked]
    return list(pipe.latents(requests, lambda progress: None))


SMALL = clip(3, 16, 16)
ASKED_SMALL, CPU = VideoSize(num_frames=3, height=16, width=16), torch.device("cpu")
HALF = Mask(values=np.repeat(np.array([0, 255], np.uint8), 8)[None, None].repeat(16, axis=1))
WISHES = {
    "nothing": Inputs(),
    "control video": Inputs({VIDEO: SMALL}),
    "mask": Inputs({VIDEO: SMALL, MASK: HALF}),
    "one reference": Inputs({REFERENCE_IMAGES: (image(2, 16, 16),)}),
    "everything": Inputs({VIDEO: SMALL, MASK: HALF, REFERENCE_IMAGES: (image(2, 16, 16), image(3, 10, 30))}),
    "weaker": Inputs({VIDEO: SMALL, CONTEXT_SCALE: 0.5}),
}


def test_every_wish_changes_the_video_and_not_its_length(pipe: Pipeline) -> None:
    made = [videos(pipe, (7, inputs))[0] for inputs in WISHES.values()]
    assert all(video.shape == (1, 4, 2, 8, 8) for video in made), "references are cut off"
    for place, video in enumerate(made):
        assert all(not torch.allclose(video, other, atol=1e-3) for other in made[:place])


def test_a_video_is_the_same_alone_and_among_others_and_again(pipe: Pipeline) -> None:
    asked = [(7, WISHES["everything"]), (8, WISHES["control video"]), (7, WISHES["everything"])]
    together = videos(pipe, *asked)
    assert torch.equal(together[0], together[2])
    assert all(torch.equal(video, videos(pipe, each)[0]) for video, each in zip(together[:2], asked[:2], strict=True))


def test_the_order_of_references_counts(pipe: Pipeline) -> None:
    one, other = image(2, 16, 16), image(3, 16, 16)
    first, second = (videos(pipe, (7, Inputs({REFERENCE_IMAGES: pair})))[0] for pair in ((one, other), (other, one)))
    assert not torch.allclose(first, second, atol=1e-3)


def test_a_scale_of_zero_is_the_video_without_side_blocks(pipe: Pipeline) -> None:
    found, _ = videos(pipe, (7, Inputs({VIDEO: SMALL, CONTEXT_SCALE: 0.0})), (7, Inputs()))
    plain = replace(pipe, recipe=replace(pipe.recipe, conditioners=()))
    assert torch.equal(found, videos(plain, (7, Inputs()))[0])


# A start from the video


@pytest.mark.parametrize("strength", [0.25, 0.5])
def test_a_strength_below_one_begins_from_the_video_and_its_references(strength: float) -> None:
    """With pixels as their own latents: the video as it is, though the mask takes it apart for the side blocks."""
    shown = (image(2, 16, 16), image(3, 16, 16))
    inputs = Inputs({VIDEO: SMALL, MASK: HALF, REFERENCE_IMAGES: shown, STRENGTH: strength})
    constraints = Vace().encode(inputs, ASKED_SMALL, InHand()).constraints
    assert constraints.init_latents is not None and constraints.prefix_latents is not None
    assert (
        torch.equal(constraints.init_latents[0].transpose(0, 1), signal(SMALL.frames))
        and constraints.strength == strength
    )
    for place, each in enumerate(shown):
        assert torch.equal(constraints.prefix_latents[:, :, place], signal(each.pixels[None]))


@pytest.mark.parametrize("strength", [None, 1.0])
def test_a_whole_strength_begins_from_noise(pipe: Pipeline, strength: float | None) -> None:
    inputs = Inputs({VIDEO: SMALL, STRENGTH: strength})
    assert torch.equal(videos(pipe, (7, inputs))[0], videos(pipe, (7, Inputs({VIDEO: SMALL})))[0])


@pytest.mark.parametrize("references", [(), (image(2, 16, 16),)], ids=["video", "video and reference"])
def test_a_weaker_strength_stays_nearer_to_the_video(pipe: Pipeline, references: tuple[InputImage, ...]) -> None:
    found = [
        videos(pipe, (7, Inputs({VIDEO: SMALL, REFERENCE_IMAGES: references, STRENGTH: each})))[0]
        for each in (0.4, 0.7, 1.0)
    ]
    shown = encode_video(pipe.parts.codec(CPU), clip_chunks(SMALL, ASKED_SMALL, 2))
    far = [(each - shown).square().mean().item() for each in found]
    assert far == sorted(far) and far[0] < far[1] < far[2]
    assert all(each.shape == shown.shape for each in found), "references are cut off here too"


# Sizes and warnings


def test_the_video_has_the_size_of_the_control_and_says_so(recwarn: pytest.WarningsRecorder) -> None:
    assert sized(Inputs({VIDEO: clip(9, 32, 48)})) == VideoSize(num_frames=9, height=32, width=48)
    assert sized(Inputs({REFERENCE_IMAGES: (image(2, 30, 40),)})) == ASKED
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"walk\.mp4 of 11 frames of 50x40 is read as 9 of 48x32"):
        assert sized(Inputs({VIDEO: clip(11, 40, 50)})).num_frames == 9


def test_a_mask_is_resized_and_sampled_with_its_video() -> None:
    """A mask that is white where the video is bright stays so, whatever is taken of the two."""
    bright = np.zeros((11, 40, 50), np.uint8)
    bright[::2, :20], bright[1::2, 20:] = 255, 255
    inputs = Inputs({VIDEO: InputVideo(frames=bright[..., None].repeat(3, axis=3)), MASK: Mask(values=bright)})
    video = VideoSize(num_frames=9, height=32, width=48)
    pixels = Vace().encode(inputs, video, InHand()).branches["vace"].latents[0]  # identity codec: 3 + 3 + 1 channels
    kept, changed, shown = pixels[:3], pixels[3:6], pixels[6]
    assert torch.equal(shown > 0.5, changed[0] > 0) and (kept <= 0).all()
    assert (shown[:, 4] == torch.tensor([1, 0, 1, 0, 0, 1, 0, 0, 1])[:, None]).all(), "frames 0 1 2 3 5 6 7 9 10"


# Refusals


@pytest.mark.parametrize(
    ("inputs", "code", "named"),
    [
        (Inputs({VIDEO: clip(4)}), "video_too_short", "walk.mp4"),
        (Inputs({VIDEO: clip(9, 15, 40)}), "video_too_small", "40x15"),
        (Inputs({MASK: mask()}), "input_missing", "mask.png"),
        (Inputs({MASK: mask(), REFERENCE_IMAGES: (image(2, 8, 8),)}), "input_missing", "mask.png"),
        (Inputs({VIDEO: clip(), MASK: mask(height=16)}), "mask_size_differs", "48x16"),
        (Inputs({VIDEO: clip(), MASK: mask(frames=8)}), "mask_length_differs", "8 frames"),
        (Inputs({VIDEO: clip(), MASK: mask(value=127)}), "mask_empty", "mask.png"),
        (Inputs({STRENGTH: 0.5}), "input_missing", "strength"),
        (Inputs({REFERENCE_IMAGES: (GREY,)}), "image_uniform", "grey.png"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(inputs: Any, code: str, named: str) -> None:
    with refused(code, named) as caught:
        sized(inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "code", "named"),
    [
        ("width", 18, "size_not_multiple", "16 and 20"),
        ("height", 22, "size_not_multiple", "20 and 24"),
        ("num_frames", 4, "frames_not_multiple", "3 and 5"),
    ],
)
def test_a_size_that_cannot_be_made_is_refused(pipe: Pipeline, name: str, value: int, code: str, named: str) -> None:
    with refused(code, named):
        pipe.request(PROMPT, seed=1, inputs=Inputs({REFERENCE_IMAGES: (image(2, 8, 8),)}), **{name: value})
