"""Numbers of numpy and fractions are numbers wherever videos are read, written and shown; a bool is none."""

import json
from fractions import Fraction
from typing import Any

import jaxtyping
import numpy as np
import pytest

from kinoform.media.coerce import clip_of, mask_of
from kinoform.media.contact_sheet import contact_sheet, video_grid
from kinoform.media.metadata import read_params
from kinoform.media.read import read_clip
from kinoform.media.types import InputVideo
from kinoform.media.video import Video
from tests.support.refusals import refused

FRAMES = np.zeros((9, 16, 16, 3), np.uint8)
ONE: Any = 1.0


@pytest.fixture(autouse=True)
def _as_outside_tests(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


NTSC = Fraction(24000, 1001)


@pytest.mark.parametrize("fps", [NTSC, np.float32(8), np.int64(8), np.float64(8), np.array(8.0)])
def test_rates_are_numbers_of_any_library(fps, tmp_path):
    video = Video(frames=FRAMES, fps=fps)
    assert type(video.fps) is float and video.fps == float(fps)
    clip = InputVideo(frames=FRAMES, fps=fps)
    assert type(clip.fps) is float
    path = video.save(tmp_path / "a.mkv", upscale=np.int64(2))
    for found in (read_clip(path, fps=fps, num_frames=np.int32(9)), clip_of(video, fps=fps, num_frames=np.uint8(9))):
        assert len(found.frames) == 9 and type(found.fps) is float and found.fps == float(fps)


def test_counts_are_numbers_of_any_library(tmp_path):
    video, two = (
        Video(frames=FRAMES, fps=8.0, params={"seed": np.int64(3), "guidance_scale": np.float32(2.5)}),
        np.int64(2),
    )
    assert (
        contact_sheet(video, columns=two, every=two, upscale=two).size
        == contact_sheet(video, columns=2, every=2, upscale=2).size
    )
    assert (
        video_grid([video, video], columns=two, upscale=two).frames.shape
        == video_grid([video, video], columns=2, upscale=2).frames.shape
    )
    read = read_params(video.save(tmp_path / "a.mp4", upscale=two, crf=np.int8(20)))
    assert (read["seed"], read["guidance_scale"]) == (3, 2.5)
    assert read["encoding"] == {"upscale": 2, "codec": "h264", "crf": 20}
    assert len(json.dumps(video.saved_params("a.mp4", upscale=two)["encoding"])) > 0


@pytest.mark.parametrize(("make", "fps"), [(Video, True), (Video, "8"), (clip_of, True)])
def test_what_is_no_number_is_no_rate(make: Any, fps: Any) -> None:
    with refused("wrong_type"):
        make(frames=FRAMES, fps=fps) if make is Video else make(FRAMES, fps=fps)


@pytest.mark.parametrize("make", [
    lambda video: clip_of(video, num_frames=True),
    lambda video: mask_of(FRAMES[..., 0] + 255, num_frames=ONE),
    lambda video: video.save("a.mp4", upscale=True),
    lambda video: video.saved_params("a.mp4", upscale=1.5),
    lambda video: contact_sheet(video, every=True),
    lambda video: video_grid([video], columns=ONE),
])  # fmt: skip
def test_what_is_no_whole_number_is_no_count(make):
    with refused("not_a_whole_number"):
        make(Video(frames=FRAMES, fps=8.0))
