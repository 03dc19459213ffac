"""Tasks of VACE as inputs: what is known stays where it was, what is to be made is grey and white in the mask."""

import numpy as np
import pytest

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import MASK, REFERENCE_IMAGES, VIDEO
from kinoform.conditions.vace import Vace
from kinoform.conditions.vace_inputs import (
    GREY,
    between,
    extend,
    inpaint,
    outpaint,
    reference_to_video,
    video_to_video,
)
from kinoform.media.types import InputVideo, Mask, Origin
from tests.conditions.in_hand import image
from tests.support.narrowing import some
from tests.support.refusals import refused

IMAGE = image(2, 8, 8)


def clip(seed: int, frames: int = 5, height: int = 16, width: int = 32) -> InputVideo:
    values = np.random.default_rng(seed).integers(0, 100, (frames, height, width, 3), dtype=np.uint8)
    return InputVideo(frames=values, fps=16.0, origin=Origin(file=f"{seed}.mp4", sha256=f"{seed:064x}"))


def parts(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Frames and mask; grey wherever the mask is white, and inputs that VACE takes."""
    frames = some(inputs[VIDEO]).frames
    mask = np.broadcast_to(some(inputs[MASK]).values, frames.shape[:3])
    assert set(np.unique(mask)) == {0, 255} and (frames[mask == 255] == GREY).all()
    Vace().check(inputs, VideoSize(num_frames=len(frames), height=frames.shape[1], width=frames.shape[2]))
    return frames, mask


def test_references_and_controls_are_passed_on() -> None:
    assert reference_to_video(IMAGE, IMAGE)[REFERENCE_IMAGES] == (IMAGE, IMAGE)
    video = clip(1)
    made = video_to_video(video, (IMAGE,))
    assert made[VIDEO] is video and made[MASK] is None and made[REFERENCE_IMAGES] == (IMAGE,)


@pytest.mark.parametrize("frames", [1, 5])
def test_inpainting_hides_what_is_white_and_nothing_else(frames: int) -> None:
    video, white = clip(1), np.zeros((frames, 16, 32), np.uint8)
    white[:, 4:9, 10:20] = 255
    shown, mask = parts(made := inpaint(video, Mask(values=white), (IMAGE,)))
    assert np.array_equal(shown[mask == 0], video.frames[mask == 0]) and (mask == 255).sum() == 5 * 50
    assert made[REFERENCE_IMAGES] == (IMAGE,) and some(made[VIDEO]).origin == video.origin


def test_outpainting_places_the_video_on_a_larger_canvas() -> None:
    video = clip(1)
    shown, mask = parts(outpaint(video, left=3, right=5, top=16, reference_images=(IMAGE,)))
    assert shown.shape == (5, 32, 40, 3)
    assert np.array_equal(shown[:, 16:, 3:35], video.frames) and (mask == 0).sum() == video.frames[..., 0].size
    assert (mask[:, 16:, 3:35] == 0).all()


@pytest.mark.parametrize(("before", "after"), [(4, 0), (0, 8), (3, 1)])
def test_extending_keeps_the_video_where_it_stands(before: int, after: int) -> None:
    video = clip(1)
    shown, mask = parts(extend(video, before=before, after=after))
    assert len(shown) == before + 5 + after
    assert np.array_equal(shown[before : before + 5], video.frames)
    assert (mask[before : before + 5] == 0).all() and (mask == 255).any((1, 2)).sum() == before + after


def test_what_joins_two_videos_stands_between_them() -> None:
    first, second = clip(1), clip(2, frames=2)
    shown, mask = parts(between(first, second, frames=6))
    assert len(shown) == 13 and (mask == 255).all((1, 2)).tolist() == [False] * 5 + [True] * 6 + [False] * 2
    assert np.array_equal(shown[:5], first.frames) and np.array_equal(shown[11:], second.frames)


def test_what_cannot_be_done_is_refused() -> None:
    video = clip(1)
    with refused("input_missing"):
        reference_to_video()
    with refused("mask_size_differs", "8x8", "1.mp4 32x16"):
        inpaint(video, Mask(values=np.full((1, 8, 8), 255, np.uint8)))
    for wrong in (lambda: outpaint(video), lambda: outpaint(video, left=-1, right=2), lambda: extend(video)):
        with refused("bad_value"):
            wrong()
    with refused("sizes_differ", "1.mp4", "2.mp4", "32x8"):
        between(video, clip(2, height=8), frames=4)
