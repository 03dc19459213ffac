"""A video to edit, an image and references in context: sizes, order, groups, task, mask, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kinoform.conditions.coerce import to_inputs
from kinoform.conditions.in_context import TASK, EditingTask, InContext
from kinoform.conditions.in_context_sizes import in_size, own_size, picked_frames
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import EncoderSpecs, Units, VideoSize, prefixed, read_options
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.media.types import InputVideo, Mask
from tests.conditions.in_hand import CODECS, InHand, image, random_module
from tests.support.refusals import refused

UNITS = Units(stride=(4, 8, 8), patch=(1, 2, 2))
ASKED = VideoSize(num_frames=9, height=48, width=64)
TASKS = (
    EditingTask(name="v2v", prefix="Edit.", given=frozenset({"video"})),
    EditingTask(name="r2i", prefix="One.", given=frozenset({"reference_images"}), still=True),
    EditingTask(name="r2v", prefix="Many.", given=frozenset({"reference_images"}), still=False),
    EditingTask(name="mv2v", prefix="Motion."),
)
CONDITIONER = InContext(tasks=TASKS, fallback=EditingTask(name="general", prefix="."), longest=64)


def film(frames: int, height: int, width: int, fps: float | None = None) -> InputVideo:
    pixels = np.random.default_rng(7).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    return InputVideo(frames=pixels, fps=fps)


def given(**values: object) -> Inputs:
    return to_inputs(CONDITIONER.inputs, values)


def sized(inputs: Inputs, asked: VideoSize = ASKED) -> VideoSize:
    video = CONDITIONER.size(inputs, asked, UNITS)
    CONDITIONER.check(inputs, video)
    return video


def test_the_video_has_the_size_of_the_video_or_the_image_that_is_given() -> None:
    clip, still = film(9, 72, 128), image(1, 128, 96)
    assert sized(given(video=clip)) == VideoSize(num_frames=9, height=32, width=64)  # 36 is nearer to 32
    assert sized(given(image=still)) == replace(ASKED, height=64, width=48)
    assert sized(given(video=clip, image=still)) == VideoSize(num_frames=9, height=32, width=64)
    assert sized(given(video=clip, exact_size=True)) == ASKED
    assert sized(given(reference_images=[still])) == ASKED
    small = film(5, 16, 32)
    with pytest.warns(UserWarning, match="5 frames are made"):
        assert sized(given(video=small)) == VideoSize(num_frames=5, height=16, width=32), "nothing is enlarged"


def test_segments_are_the_video_then_the_images_each_in_a_size_of_its_own_and_counted_so() -> None:
    inputs = given(video=film(9, 72, 128), image=image(1, 40, 40), reference_images=[image(2, 100, 50)])
    video, spec = sized(inputs), CODECS["4"]
    result = CONDITIONER.encode(inputs, video, InHand(made_codec=random_module(spec)))
    assert [segment.group for segment in result.segments] == ["video", "images", "images"]
    shapes = [tuple(segment.latents.shape) for segment in result.segments]
    assert shapes == [(1, 16, 3, 4, 8), (1, 16, 1, 4, 4), (1, 16, 1, 8, 4)]  # 40 is nearer to 32, 50 of 100 to 32 of 64
    cost = CONDITIONER.estimate(inputs, video, UNITS, EncoderSpecs(codec=spec))
    assert [tuple(segment.latents.shape) for segment in cost.segments] == shapes
    assert (cost.videos, cost.stills) == (1, 2) and result.constraints.inpainting is None
    assert CONDITIONER.encode(given(), ASKED, InHand()).segments == ()


def test_black_of_a_mask_stays() -> None:
    white = np.zeros((1, 48, 64), dtype=np.uint8)
    white[:, 16:32, 16:32] = 255
    inputs = given(video=film(9, 48, 64), mask=Mask(values=white))
    result = CONDITIONER.encode(inputs, sized(inputs), InHand(made_codec=random_module(CODECS["4"])))
    known = result.constraints.inpainting
    assert known is not None and known.latents is result.segments[0].latents
    assert (~known.mask[0, 0]).nonzero().tolist() == [[f, h, w] for f in range(3) for h in (2, 3) for w in (2, 3)]


@pytest.mark.parametrize(
    ("values", "frames", "task"),
    [
        ({"video": film(9, 48, 64)}, 9, "v2v"),
        ({"reference_images": [image(1, 32, 32)]}, 9, "r2v"),
        ({"reference_images": [image(1, 32, 32)]}, 1, "r2i"),
        ({}, 9, "general"),
        ({"video": film(9, 48, 64), "task": "mv2v"}, 9, "mv2v"),
    ],
)
def test_the_prompt_stands_behind_the_words_of_the_task(values: dict[str, object], frames: int, task: str) -> None:
    inputs, video = given(**values), replace(ASKED, num_frames=frames)
    assert CONDITIONER.task(inputs, video) == task
    words = next(item.prefix for item in (*TASKS, CONDITIONER.fallback) if item.name == task)
    assert prefixed((CONDITIONER,), "  a cat ", inputs, video) == words + "a cat"
    assert prefixed((), "  a cat ", inputs, video) == "  a cat "


def test_a_video_is_read_by_the_rule_of_the_model() -> None:
    clip, options = film(20, 16, 16, fps=24.0), read_options((CONDITIONER,), fps=16.0, num_frames=9)
    with pytest.warns(UserWarning, match="9 frames at 16 per second, from 20"):
        read = to_inputs(CONDITIONER.inputs, {"video": clip}, options)[VIDEO]
    assert read is not None and read.fps == 16.0
    assert np.array_equal(read.frames, clip.frames[picked_frames(20, 24.0, wanted=16.0, most=9)])
    same = to_inputs(CONDITIONER.inputs, {"video": film(9, 16, 16, fps=16.0)}, options)[VIDEO]
    assert same is not None and np.array_equal(same.frames, film(9, 16, 16).frames)


def test_an_image_of_its_size_is_not_touched() -> None:
    assert own_size((48, 64), 64) == (48, 64)
    pixels = in_size([image(1, 48, 64).pixels], (48, 64))
    assert torch.equal(
        ((pixels + 1) * 127.5).round().byte()[0].movedim(0, 2), torch.from_numpy(image(1, 48, 64).pixels)
    )


@pytest.mark.parametrize(
    ("code", "values"),
    [
        ("too_many", {REFERENCE_IMAGES: tuple(image(n, 32, 32) for n in range(9))}),
        ("image_uniform", {REFERENCE_IMAGES: (replace(image(1, 9, 9), pixels=np.zeros((32, 32, 3), np.uint8)),)}),
        ("image_too_narrow", {REFERENCE_IMAGES: (image(1, 4, 640),)}),
        ("image_too_narrow", {VIDEO: film(9, 6, 64)}),
        ("input_not_taken", {FRAMES: {2: image(1, 32, 32)}}),
        ("input_missing", {MASK: Mask(values=np.full((1, 48, 64), 255, np.uint8))}),
        ("mask_full", {VIDEO: film(9, 48, 64), MASK: Mask(values=np.full((1, 48, 64), 255, np.uint8))}),
        ("mask_size_differs", {VIDEO: film(9, 48, 64), MASK: Mask(values=np.full((1, 32, 64), 255, np.uint8))}),
        ("video_too_short", {VIDEO: film(3, 48, 64)}),
        ("unknown_name", {TASK: "vr2v"}),
    ],
)
def test_what_the_model_cannot_take_is_refused(code: str, values: dict[InputField[object], object]) -> None:
    with refused(code):
        sized(Inputs(values))


def test_all_inputs_are_declared() -> None:
    assert CONDITIONER.inputs == (VIDEO, MASK, FRAMES, REFERENCE_IMAGES, EXACT_SIZE, TASK)
