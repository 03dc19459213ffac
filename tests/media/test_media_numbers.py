"""Numbers of numpy and fractions are numbers wherever films are read, written and shown; a bool is none."""

import json
from fractions import Fraction

import jaxtyping
import numpy as np
import pytest

from kinoform.media.film import Film
from kinoform.media.material import Clip
from kinoform.media.metadata import read_params
from kinoform.media.reading import read_clip
from kinoform.media.sheet import contact_sheet
from kinoform.media.values import clip_of, mask_of
from kinoform.media.wall import wall
from refusals import refused

FRAMES = np.zeros((9, 16, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def _as_outside_tests(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


NTSC = Fraction(24000, 1001)


@pytest.mark.parametrize("fps", [NTSC, np.float32(8), np.int64(8), np.float64(8), np.array(8.0)])
def test_rates_are_numbers_of_any_library(fps, tmp_path):
    film = Film(frames=FRAMES, fps=fps)
    assert type(film.fps) is float and film.fps == float(fps)
    clip = Clip(frames=FRAMES, fps=fps)
    assert type(clip.fps) is float
    path = film.save(tmp_path / "a.mkv", upscale=np.int64(2))
    for found in (read_clip(path, fps=fps, num_frames=np.int32(9)), clip_of(film, fps=fps, num_frames=np.uint8(9))):
        assert len(found.frames) == 9 and type(found.fps) is float and found.fps == float(fps)


def test_counts_are_numbers_of_any_library(tmp_path):
    film, two = Film(frames=FRAMES, fps=8.0, params={"seed": np.int64(3), "guidance": np.float32(2.5)}), np.int64(2)
    assert (
        contact_sheet(film, columns=two, every=two, upscale=two).size
        == contact_sheet(film, columns=2, every=2, upscale=2).size
    )
    assert (
        wall([film, film], columns=two, upscale=two).frames.shape
        == wall([film, film], columns=2, upscale=2).frames.shape
    )
    read = read_params(film.save(tmp_path / "a.mp4", upscale=two, crf=np.int8(20)))
    assert (read["seed"], read["guidance"]) == (3, 2.5)
    assert read["encoding"] == {"upscale": 2, "codec": "h264", "crf": 20}
    assert len(json.dumps(film.saved_params("a.mp4", upscale=two)["encoding"])) > 0


@pytest.mark.parametrize("make", [
    lambda: Film(frames=FRAMES, fps=True),
    lambda: Film(frames=FRAMES, fps="8"),
    lambda: clip_of(FRAMES, fps=True),
])  # fmt: skip
def test_what_is_no_number_is_no_rate(make):
    with refused("wrong_type"):
        make()


@pytest.mark.parametrize("make", [
    lambda film: clip_of(film, num_frames=True),
    lambda film: mask_of(FRAMES[..., 0] + 255, num_frames=2.0),
    lambda film: film.save("a.mp4", upscale=True),
    lambda film: film.saved_params("a.mp4", upscale=1.5),
    lambda film: contact_sheet(film, every=True),
    lambda film: wall([film], columns=1.0),
])  # fmt: skip
def test_what_is_no_whole_number_is_no_count(make):
    with refused("not_a_whole_number"):
        make(Film(frames=FRAMES, fps=8.0))
