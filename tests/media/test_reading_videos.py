"""Videos keep their time, their way up and their colours, however a camera or an editor wrote them."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinoform.media.read import read_clip, read_mask
from kinoform.media.resample import TimedFrame, at_rate, exact_rate
from kinoform.media.video import Video
from tests.support.strange_media import HLG, PQ, WIDE, turned, write_video

pytestmark = pytest.mark.usefixtures("here_and_silent")


def numbered(count: int) -> np.ndarray:
    """Frames of 16 by 24 that are as bright as their number."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 16, 24, 3)).copy()


def shown(path: Path, **options: Any) -> list[int]:
    return read_clip(path, **options).frames[:, 0, 0, 0].tolist()


def at(times: list[int]) -> list[TimedFrame]:
    """Frames that begin at these milliseconds, the last one for 100 ms."""
    pairs = zip(times, [*times[1:], times[-1] + 100], strict=True)
    return [
        TimedFrame(pixels=lambda n=n: np.array(n), time=Fraction(start, 1000), end=Fraction(end, 1000))
        for n, (start, end) in enumerate(pairs)
    ]


@pytest.mark.parametrize("times", [[0, 100, 200, 300], [0, 40, 80, 300, 320], [0], [0, 0, 500]])
@pytest.mark.parametrize("fps", [0.5, 3.0, 10.0, 16.0, 60.0])
def test_each_frame_of_a_new_rate_is_the_one_on_screen_then(times, fps):
    frames, rate = at(times), exact_rate(fps)
    found = [int(frame.pixels()) for frame in at_rate(frames, rate, Fraction(0))]
    expected, place = [], 0
    while place / rate < frames[-1].end:
        expected.append(max(n for n, frame in enumerate(frames) if frame.time <= place / rate))
        place += 1
    assert found == expected


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".gif", ".webp"])
@pytest.mark.parametrize("fps", [7.0, 16.0, 24000 / 1001, 30.0])
def test_a_video_at_its_own_rate_stays_as_it_is(suffix, fps, tmp_path):
    """Although some formats round their times to a hundredth or a thousandth of a second."""
    path = Video(frames=numbered(17) * 15, fps=fps).save(tmp_path / f"a{suffix}")
    same = read_clip(path, fps=fps)
    assert np.array_equal(same.frames, read_clip(path).frames) and same.fps == fps


def test_another_rate_is_said_with_the_number_of_frames(tmp_path):
    path = Video(frames=numbered(30), fps=30.0).save(tmp_path / "a.mkv")
    with pytest.warns(UserWarning, match=r"a\.mkv gives 16 frames at 16 per second, from 30 of its own"):
        clip = read_clip(path, fps=16.0)
    assert clip.frames[:, 0, 0, 0].tolist() == [30 * k // 16 for k in range(16)] and clip.fps == 16


def test_a_length_is_cut_aloud_and_kept_in_silence(tmp_path):
    path = Video(frames=numbered(9), fps=16.0).save(tmp_path / "a.mkv")
    with pytest.warns(UserWarning, match=r"a\.mkv is cut to 5 frames"):
        assert shown(path, num_frames=5) == [0, 1, 2, 3, 4]
    assert shown(path, num_frames=9) == list(range(9)) == shown(path, num_frames=81)


def test_an_uneven_pace_is_kept_by_its_times_and_by_a_rate(tmp_path):
    path = write_video(tmp_path / "a.mkv", numbered(4) * 60, times=[0, 40, 280, 320], pixels="bgr0")
    clip = read_clip(path)
    assert len(clip.frames) == 4 and clip.fps == pytest.approx(4 / 0.36, rel=0.1)
    assert clip.times is not None and clip.times.begins == (0, 40, 280, 320)
    with pytest.warns(UserWarning, match="gives 10 frames at 25 per second, from 4 of its own"):
        assert shown(path, fps=25.0) == [0, *[60] * 6, 120, 180, 180]


@pytest.mark.parametrize("quarters", range(4))
def test_videos_stand_the_way_the_camera_was_held(quarters, smooth_video, tmp_path):
    content = smooth_video.save(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(turned(content, quarters))
    expected = np.rot90(read_clip(tmp_path / "a.mp4").frames, -quarters, axes=(1, 2))
    assert np.array_equal(read_clip(tmp_path / "b.mp4").frames, expected)


def test_10_bits_become_8_aloud(smooth_video, tmp_path):
    path = write_video(tmp_path / "a.mkv", smooth_video.frames)
    with pytest.warns(UserWarning, match="has 10 bits per colour; they are converted to 8"):
        clip = read_clip(path)
    assert np.abs(clip.frames.astype(int) - smooth_video.frames).max() <= 2


def test_white_is_put_behind_a_transparent_video_and_its_paint_is_a_mask(tmp_path):
    frames = np.zeros((3, 16, 24, 4), np.uint8)
    frames[:, :8] = (255, 255, 255, 255)
    frames[:, 8:12] = (0, 0, 0, 255)
    path = write_video(tmp_path / "a.mkv", frames, pixels="bgra")
    with pytest.warns(UserWarning, match="transparent in places; white"):
        assert np.array_equal(read_clip(path).frames[0, :, 0, 0], [255] * 8 + [0] * 4 + [255] * 4)
    with pytest.warns(UserWarning, match="transparent in places; black"):
        assert np.array_equal(read_mask(path).values[0, :, 0], [255] * 8 + [0] * 8)


def pq(light: np.ndarray) -> np.ndarray:
    """16-bit codes of cd/m2 (SMPTE ST 2084)."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    y = (np.asarray(light) / 10_000) ** m1
    return np.rint(65535 * ((c1 + c2 * y) / (1 + c3 * y)) ** m2).astype(np.uint16)


def greys(codes: np.ndarray) -> np.ndarray:
    """A video of one frame with a grey column for each code."""
    return np.repeat(codes[None, :], 16, axis=0)[None, ..., None].repeat(3, axis=3)


def converted(path: Path, said: str) -> np.ndarray:
    with pytest.warns(UserWarning, match=said):
        return read_clip(path).frames[0, 0]


def test_hdr_keeps_black_greys_and_middle_tones_and_rolls_off_highlights(tmp_path):
    light = np.array([0, 1, 5, 20, 50, 90, 203, 400, 700, 1000, 4000, 10_000])
    path = write_video(tmp_path / "a.mkv", greys(pq(light)), colours=PQ)
    found = converted(path, r"a\.mkv is HDR; it is converted to 8-bit BT\.709").astype(int)
    assert np.ptp(found, axis=1).max() <= 2, "greys stay grey"
    value = found[:, 0]
    assert (np.diff(value) >= 0).all() and value[0] == 0 and (value[-3:] == 255).all()
    # A display of 203 cd/m2 with a gamma of 2.4 shows these as they were.
    expected = 255 * (light[1:6] / 203) ** (1 / 2.4)
    assert np.abs(value[1:6] - expected).max() <= 3
    assert 200 < value[6] < 250, "white of paper leaves room for highlights"


def test_hlg_is_hdr_too(tmp_path):
    codes = np.linspace(0, 65535, 24).astype(np.uint16)
    found = converted(write_video(tmp_path / "a.mkv", greys(codes), colours=HLG), "is HDR").astype(int)
    assert np.ptp(found, axis=1).max() <= 2
    assert (np.diff(found[:, 0]) >= 0).all() and found[0, 0] == 0 and found[-1, 0] == 255
    # Reference white is a signal of 0.75, and 203 cd/m2 on a display of 1000 (BT.2408), as in the test above.
    white = converted(write_video(tmp_path / "b.mkv", greys(np.full(24, 0.75 * 65535, np.uint16)), colours=HLG), "HDR")
    paper = converted(write_video(tmp_path / "c.mkv", greys(pq(np.full(24, 203.0))), colours=PQ), "HDR")
    assert np.abs(white.astype(int) - paper).max() <= 3


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40), (128, 128, 128)])
def test_colours_in_wide_primaries_come_back(colour, tmp_path):
    """A colour of BT.709, written with the primaries of BT.2020 by the published matrix (BT.2087)."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    wide = (to_2020 @ (np.array(colour) / 255) ** 2.4) ** (1 / 2.4)
    frames = np.broadcast_to(np.rint(65535 * wide).astype(np.uint16), (1, 16, 24, 3)).copy()
    path = write_video(tmp_path / "a.mkv", frames, colours=WIDE)
    found = converted(path, "has the colours of BT.2020; they become BT.709").astype(int)
    assert np.abs(found - colour).max() <= 20 and np.abs(found - colour).mean() <= 8
