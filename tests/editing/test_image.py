"""Videos from images: what is handed to the model, in which size, and what is refused."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoform.conditions.image_tokens import ImageTokens
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.standard_inputs import FRAMES
from kinoform.editing.image_to_video import animate, bridge
from tests.editing.pretend import Pretended, noise, pretended, video
from tests.support.refusals import refused

PROMPT = "a red ball"
FIRST, LAST = video(2, 32, 16)


@pytest.fixture
def pipe(folder: Path) -> Pretended:
    return pretended(folder, noise, conditioners=(KnownFrames(), ImageTokens()))


def test_a_image_is_the_first_frame_and_decides_the_proportions(pipe: Pretended, tmp_path: Path) -> None:
    Image.fromarray(FIRST).save(tmp_path / "first.png")
    made = animate(pipe, tmp_path / "first.png", PROMPT, seed=4, num_frames=5, num_inference_steps=2)
    (asked,) = pipe.seen
    assert list(asked.inputs[FRAMES]) == [0] and np.array_equal(asked.inputs[FRAMES][0].pixels, FIRST)
    assert made.frames.shape == (5, 20, 8, 3), "the area of 16x16, in multiples of 4"
    assert (made.params["seed"], made.params["steps"], asked.seed) == (4, 2, 4)
    assert made.params["inputs"]["frame:0"]["file"] == "first.png"  # type: ignore[index]


def test_a_bridge_leads_from_one_image_to_the_other(pipe: Pretended) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = bridge(pipe, FIRST, LAST, PROMPT, seed=4)
    (asked,) = pipe.seen
    frames = asked.inputs[FRAMES]
    assert list(frames) == [0, -1]
    assert np.array_equal(frames[0].pixels, FIRST) and np.array_equal(frames[-1].pixels, LAST)
    assert made.frames.shape == (9, 20, 8, 3)


def test_a_missing_seed_is_drawn(pipe: Pretended) -> None:
    assert animate(pipe, FIRST, PROMPT).params["seed"] != animate(pipe, FIRST, PROMPT).params["seed"]


def test_a_last_image_of_other_proportions_is_cropped_and_told(pipe: Pretended) -> None:
    with pytest.warns(UserWarning, match="the image of 16x16 is cropped to 8x16, the proportions of 16x32"):
        bridge(pipe, FIRST, LAST[:16], PROMPT, seed=1)


def test_what_makes_no_video_of_images_is_refused_before_any_work(folder: Path, pipe: Pretended) -> None:
    words = pretended(folder, noise)
    narrow = np.zeros((400, 4, 3), np.uint8)
    with refused("input_not_taken", "i2v-14b-480p"):
        animate(words, FIRST, PROMPT)
    with refused("input_not_taken", "flf2v-14b"):
        bridge(words, FIRST, LAST, PROMPT)
    with refused("image_too_narrow", "4x400"):
        animate(pipe, narrow, PROMPT)
    with refused("frame_given_twice", "0 and -1"):
        bridge(pipe, FIRST, LAST, PROMPT, num_frames=1)
    with refused("file_missing", "nowhere.png"):
        animate(pipe, "nowhere.png", PROMPT)
    with refused("value_out_of_range", "nan"):
        bridge(pipe, FIRST, np.full((8, 8, 3), np.nan), PROMPT)
    assert not words.seen and not pipe.seen
