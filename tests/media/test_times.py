"""Frames that do not all stay as long keep their times, on the way in and on the way out."""

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from kinoform.media.codecs import CONTAINERS
from kinoform.media.coerce import clip_of
from kinoform.media.read import read_clip
from kinoform.media.resample import Times, times_from
from kinoform.media.video import Video
from tests.support.refusals import refused
from tests.support.strange_media import decoded_here

TICK = Fraction(1, 600)
TIMES = Times(tick=TICK, begins=(0, 60, 120, 180, 600, 620, 640, 660, 720), end=1320)
COUNT = len(TIMES.begins)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinoform.media.read.decoded", decoded_here)


def uneven() -> Video:
    grey = np.arange(COUNT, dtype=np.uint8)[:, None, None, None] * 20
    return Video(frames=np.broadcast_to(grey, (COUNT, 64, 64, 3)).copy(), fps=COUNT / 2.2, times=TIMES)


@pytest.mark.parametrize(("suffix", "codec"), [(kind.suffix, each.name) for kind in CONTAINERS for each in kind.codecs])
def test_videos_keep_the_time_of_each_frame_and_the_length(suffix: str, codec: str, tmp_path: Path) -> None:
    path = uneven().save(tmp_path / f"a{suffix}", codec=codec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".* has 10 bits per colour")
        clip = read_clip(path)
    assert clip.times is not None and len(clip.frames) == COUNT
    found, wanted = ([float(begin * each.tick) for begin in each.begins] for each in (clip.times, TIMES))
    assert found == pytest.approx(wanted, abs=0.0011)
    if suffix == ".mp4":  # Matroska says nothing of how long the last frame stays
        assert clip.seconds == pytest.approx(float(TIMES.seconds), abs=0.002)
    assert np.abs(clip.frames[:, 0, 0, 0].astype(int) - 20 * np.arange(COUNT)).max() <= 3


@pytest.mark.parametrize(("suffix", "tick"), [(".gif", 0.01), (".webp", 0.001)])
def test_animations_keep_them_as_far_as_they_count(suffix: str, tick: float, tmp_path: Path) -> None:
    clip = read_clip(uneven().save(tmp_path / f"a{suffix}"))
    assert clip.times is not None and clip.seconds == pytest.approx(2.2, abs=tick)
    found, wanted = ([float(begin * each.tick) for begin in each.begins] for each in (clip.times, TIMES))
    assert found == pytest.approx(wanted, abs=tick)


def test_a_folder_of_frames_says_that_it_loses_them(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="loses the times of its frames, which stay for 33 to 1000 ms; take a video"):
        uneven().save(tmp_path / "frames")
    assert len(list((tmp_path / "frames").iterdir())) == COUNT


def test_an_even_video_has_no_times_and_the_bytes_it_had(tmp_path: Path) -> None:
    even = Video(frames=uneven().frames, fps=30.0)
    for name in ("a.mp4", "a.mkv", "a.gif", "a.webp"):
        assert read_clip(even.save(tmp_path / name)).times is None or name == "a.gif"
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == 30


def test_another_rate_or_length_follows_the_times(tmp_path: Path) -> None:
    path = uneven().save(tmp_path / "a.mkv")
    same = clip_of(Video(frames=uneven().frames, fps=COUNT / 2.2, times=TIMES), fps=10.0)
    with pytest.warns(UserWarning, match="at 10 per second"):
        clip = read_clip(path, fps=10.0)
    assert clip.times is None and same.times is None
    assert clip.frames[:, 0, 0, 0].tolist()[:21] == same.frames[:, 0, 0, 0].tolist()[:21]
    with pytest.warns(UserWarning, match="cut to 5 frames"):
        cut = read_clip(path, num_frames=5)
    assert cut.times is not None and cut.times.rounded(Fraction(1, 60)).begins == (0, 6, 12, 18, 60)


def test_frames_at_one_time_are_put_a_tick_apart() -> None:
    at_once = [Fraction(0), Fraction(1, 10), Fraction(1, 10), Fraction(1, 10), Fraction(2, 10)]
    assert times_from(at_once, Fraction(2, 10), Fraction(1, 10)).begins == (0, 1, 2, 3, 4)
    assert times_from(at_once, Fraction(2, 10), Fraction(1, 10)).end == 5


def test_times_that_are_none_are_refused() -> None:
    for begins, end in (((1, 2), 3), ((0, 0), 1), ((0, 2), 2)):
        with refused("times_not_rising"):
            Times(tick=TICK, begins=begins, end=end)
    with refused("times_differ"):
        Video(frames=uneven().frames[:-1], fps=10.0, times=TIMES)


def test_an_uneven_animation_is_read_with_its_times(tmp_path: Path) -> None:
    images = [Image.fromarray(np.full((8, 8, 3), 60 * place, np.uint8)) for place in range(3)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[40, 240, 100], loop=0)
    clip = read_clip(tmp_path / "a.gif")
    assert clip.times is not None and [1000 * stay for stay in clip.times.stays] == [40, 240, 100]
