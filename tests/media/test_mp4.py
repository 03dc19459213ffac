"""An mp4 holds the video that was written, plays everywhere, and holds one video at a time in memory."""

import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from kinoform.media.codecs import H264, VIDEO, encoding
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video, write_video
from tests.support.refusals import refused

write_mp4 = partial(write_video, encoding=encoding(VIDEO[".mp4"]))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def atoms(path: Path) -> list[str]:
    content, place, names = path.read_bytes(), 0, []
    while place < len(content):
        names.append(content[place + 4 : place + 8].decode())
        place += int.from_bytes(content[place : place + 4], "big")
    return names


def test_images_survive(smooth_video, tmp_path):
    path = smooth_video.save(tmp_path / "a.mp4")
    frames, fps = read_video(path)
    assert frames.shape == smooth_video.frames.shape
    assert fps == smooth_video.fps
    assert psnr(frames, smooth_video.frames) > 30
    assert all(psnr(a, b) > 30 for a, b in zip(frames, smooth_video.frames, strict=True))


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (255, 255, 255)])
def test_colours_survive(colour, tmp_path):
    """BT.601 in place of BT.709, or full in place of limited range, would move these by tens."""
    video = Video(frames=np.full((3, 32, 32, 3), colour, np.uint8), fps=16.0)
    frames, _ = read_video(video.save(tmp_path / "a.mp4"))
    assert np.abs(frames.astype(int) - video.frames).max() <= 3


@pytest.mark.parametrize("fps", [1.0, 12.5, 16.0, 24.0, 24000 / 1001, 29.97])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_count_and_rate_are_exact(count, fps, smooth_video, tmp_path):
    video = Video(frames=smooth_video.frames[:count], fps=fps)
    frames, rate = read_video(video.save(tmp_path / "a.mp4"))
    assert len(frames) == count
    assert rate == fps


def test_every_browser_plays_it(smooth_video, tmp_path):
    path = smooth_video.save(tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)
    names = atoms(path)
    assert names.index("moov") < names.index("mdat")


def test_the_same_video_gives_the_same_bytes(tmp_path):
    """x264 with its defaults breaks this: some of twelve videos like this one differ."""
    y, x = np.mgrid[:50, :70]
    waves = [np.stack([np.sin(x / 20 + t / 5), np.cos(y / 15 - t / 7), np.sin((x + y) / 30)], -1) for t in range(17)]
    video = Video(frames=(127.5 + 100 * np.stack(waves)).astype(np.uint8), fps=16.0)
    contents, elsewhere = set(), []
    for place in range(12):
        contents.add(video.save(tmp_path / "a.mp4", force=True).read_bytes())
        elsewhere.append(bytes(5000 * (place % 7)))
    assert len(contents) == 1


def test_frames_are_let_go_as_they_are_written(tmp_path):
    alive, most = weakref.WeakSet(), 0

    class Frame(np.ndarray):
        __hash__: Any = object.__hash__

    def frames():
        nonlocal most
        for place in range(100):
            frame = np.full((32, 32, 3), place, np.uint8).view(Frame)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    write_mp4(frames(), tmp_path / "a.mp4", fps=16.0)
    assert 1 <= most <= 4
    assert len(read_video(tmp_path / "a.mp4")[0]) == 100


@pytest.mark.parametrize("height, width, advice", [(31, 64, "64x30"), (32, 63, "62x32"), (1, 1, "2x2")])
def test_an_odd_size_is_refused_with_an_even_one(height, width, advice, tmp_path):
    video = Video(frames=np.zeros((2, height, width, 3), np.uint8), fps=16.0)
    with refused("size_not_multiple", advice):
        video.save(tmp_path / "a.mp4")
    video.save(tmp_path / "a.mp4", upscale=2)
    assert read_video(tmp_path / "a.mp4")[0].shape == (2, 2 * height, 2 * width, 3)


def test_frames_of_two_sizes_and_no_frames_are_refused(tmp_path):
    sizes = [np.zeros((32, 32, 3), np.uint8), np.zeros((32, 34, 3), np.uint8)]
    with refused("sizes_differ", "(32, 34, 3)", "(32, 32, 3)"):
        write_mp4(iter(sizes), tmp_path / "a.mp4", fps=16.0)
    with refused("frames_missing"):
        write_mp4(iter([]), tmp_path / "a.mp4", fps=16.0)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_encoder_is_named_with_the_file(smooth_video, tmp_path):
    broken = replace(encoding(VIDEO[".mp4"]), codec=replace(H264, options={"preset": "no such preset"}))
    with refused("encoder_failed", "a.mp4"):
        write_video(iter(smooth_video.frames), tmp_path / "a.mp4", encoding=broken, fps=16.0)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_video_is_refused_by_name(smooth_video, tmp_path):
    smooth_video.save(tmp_path / "private.mp4")
    (tmp_path / "a.mp4").write_bytes(b"not a video")
    (tmp_path / "playlist.mp4").write_text("ffconcat version 1.0\nfile private.mp4\n")
    for name in ("a.mp4", "missing.mp4", "playlist.mp4"):
        with refused("media_damaged", name):
            read_video(tmp_path / name)
