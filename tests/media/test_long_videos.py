"""Reading a long video decodes only what is used, however long it is."""

import warnings
from fractions import Fraction

import numpy as np
import pytest

import kinoform
from kinoform.media import video_decoder as footage
from kinoform.media.read import read_clip, read_mask
from tests.support.refusals import refused
from tests.support.strange_media import decoded_here, long_video


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr("kinoform.media.read.decoded", decoded_here)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def shown(monkeypatch) -> list[int]:
    """A number for each frame that was turned into pixels, and for each that was decoded."""
    seen = [0, 0]

    def decoded(*args):
        for frame in plain_decoded(*args):
            seen[1] += 1
            yield frame

    def upright(*args):
        seen[0] += 1
        return plain_upright(*args)

    plain_decoded, plain_upright = footage._decoded, footage._upright
    monkeypatch.setattr(footage, "_decoded", decoded)
    monkeypatch.setattr(footage, "_upright", upright)
    return seen


@pytest.mark.parametrize("fps, used", [(None, 17), (15.0, 34), (60.0, 9)])
def test_decoding_ends_with_the_last_frame_that_is_used(fps, used, shown, tmp_path):
    path = long_video(tmp_path / "a.mkv", 20, 30)
    whole = read_clip(path, fps=fps).frames[:17]
    shown[:] = 0, 0
    assert np.array_equal(read_clip(path, fps=fps, num_frames=17).frames, whole)
    assert shown[0] == min(17, used) and used <= shown[1] <= used + 3


@pytest.mark.parametrize("seconds, rate", [(1000, Fraction(1, 2)), (700, 1)])
def test_a_part_of_any_length_is_read(seconds, rate, shown, tmp_path):
    path = long_video(tmp_path / "a.mkv", seconds, rate)
    for read in (read_clip, read_mask):
        with refused("media_too_large"):
            read(path)
    assert shown[1] == 0
    assert len(read_clip(path, num_frames=17).frames) == 17 and shown[1] < 20


def test_more_than_fits_is_no_matter_where_little_is_used(shown, tmp_path, monkeypatch):
    monkeypatch.setattr("kinoform.media.resample.MAX_RESULT", 18 * 64 * 64 * 3)
    path = long_video(tmp_path / "a.mkv", 20, 30)
    with refused("media_too_large"):
        read_clip(path)
    pipe = kinoform.load("mini")
    settings = {"seed": 1, "num_inference_steps": 1, "width": 64, "height": 64, "strength": 0.1, "fps": 16}
    assert len(pipe("a red ball", video=path, num_frames=17, **settings).frames) == 17
    assert 17 <= shown[0] <= 18 and shown[1] < 40
