"""A video in a notebook plays inside the page, whatever its size and length, and the page stays small."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest

from kinoform.media import notebook
from kinoform.media.notebook import LONGEST_SIDE, html_of, shrunk
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video


def noise(frames: int, height: int, width: int) -> Video:
    draw = np.random.default_rng(1)
    return Video(frames=draw.integers(0, 256, (frames, height, width, 3), dtype=np.uint8), fps=8.0)


def inside(page: str, kind: str, place: Path) -> Path:
    """The one file that the page holds."""
    found = re.findall(r'src="data:([a-z0-9/]+);base64,([A-Za-z0-9+/=]+)"', page)
    assert [each for each, _ in found] == [kind] and "http" not in page
    place.write_bytes(base64.b64decode(found[0][1]))
    return place


@pytest.mark.parametrize(("height", "width"), [(64, 64), (63, 31), (1, 3), (500, 1000), (1, 2000)])
def test_it_plays_in_a_small_size(tmp_path: Path, height: int, width: int) -> None:
    video = noise(5, height, width)
    page = video._repr_html_()
    assert page.startswith("<video ") and " loop " in page and " muted " in page
    frames, rate = read_video(inside(page, "video/mp4", tmp_path / "shown.mp4"))
    assert rate == 8 and len(frames) == 5 and max(frames.shape[1:3]) <= LONGEST_SIDE


def test_a_smooth_video_looks_as_it_is(smooth_video: Video, tmp_path: Path) -> None:
    frames, _ = read_video(inside(html_of(smooth_video), "video/mp4", tmp_path / "shown.mp4"))
    assert np.abs(frames.astype(float) - smooth_video.frames).mean() < 4


def test_a_large_one_is_shrunk_to_the_mean_of_its_pixels() -> None:
    video = noise(1, 4, 2 * LONGEST_SIDE)
    means = video.frames.reshape(1, 2, 2, LONGEST_SIDE, 2, 3).mean(axis=(2, 4)).round()
    assert np.array_equal(shrunk(video.frames), means)


def test_a_single_frame_is_an_image(tmp_path: Path) -> None:
    page = noise(1, 32, 48)._repr_html_()
    inside(page, "image/png", tmp_path / "shown.png")
    assert page.startswith("<img ")


def test_a_page_has_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    video = noise(6, 64, 64)
    fine = len(html_of(video))
    monkeypatch.setattr(notebook, "MAX_BYTES", fine // 3)
    coarse = html_of(video)
    assert coarse.startswith("<video ") and len(coarse) < fine
    monkeypatch.setattr(notebook, "MAX_BYTES", 10)
    inside(html_of(video), "image/png", tmp_path / "shown.png")


def test_a_video_says_of_itself_what_it_is_in_a_line() -> None:
    video = Video(frames=np.zeros((3, 8, 16, 3), np.uint8), fps=23.5, params={"prompt": "x" * 1000})
    assert repr(video) == "Video(3 frames of 16x8 at 23.5 fps)"
