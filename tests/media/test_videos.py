"""Every video file keeps what its codec can keep: RGB bit by bit, or a faithful image with the right colours."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

from kinoform.media.codecs import CONTAINERS, VIDEO, encoding
from kinoform.media.metadata import read_params
from kinoform.media.video import Video, check_output
from kinoform.media.video_writer import read_video
from tests.support.refusals import refused

EVERY = [(container.suffix, codec) for container in CONTAINERS for codec in container.codecs]
LOSSLESS = [(suffix, codec) for suffix, codec in EVERY if codec.lossless]
LOSSY = [(suffix, codec) for suffix, codec in EVERY if not codec.lossless]


def named(value: object) -> str:
    return str(getattr(value, "name", value))


every = pytest.mark.parametrize("suffix, codec", EVERY, ids=named)
lossy = pytest.mark.parametrize("suffix, codec", LOSSY, ids=named)
lossless = pytest.mark.parametrize("suffix, codec", LOSSLESS, ids=named)


@every
@pytest.mark.parametrize("fps", [16.0, 24000 / 1001])
def test_count_rate_and_image_survive(suffix, codec, fps, smooth_video, tmp_path):
    video = Video(frames=smooth_video.frames, fps=fps)
    frames, rate = read_video(video.save(tmp_path / f"a{suffix}", codec=codec.name))
    assert frames.shape == video.frames.shape and rate == pytest.approx(fps, abs=1e-3)
    error = np.abs(frames.astype(float) - video.frames).mean((1, 2, 3))
    assert error.max() < 5, "each frame, in its place"


@lossless
def test_a_lossless_video_comes_back_bit_by_bit(suffix, codec, noisy_video, smooth_video, tmp_path):
    odd = Video(frames=np.ascontiguousarray(noisy_video.frames[:, :31, :47]), fps=16.0)
    for place, video in enumerate((noisy_video, smooth_video, odd)):
        frames, _ = read_video(video.save(tmp_path / f"{place}{suffix}", codec=codec.name))
        assert np.array_equal(frames, video.frames)


@lossy
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)])
def test_colours_survive(suffix, codec, colour, tmp_path):
    video = Video(frames=np.full((3, 64, 64, 3), colour, np.uint8), fps=16.0)
    frames, _ = read_video(video.save(tmp_path / f"a{suffix}", codec=codec.name))
    assert np.abs(frames.astype(int) - video.frames).max() <= 3


@every
def test_players_are_told_of_codec_and_colours(suffix, codec, smooth_video, tmp_path):
    with av.open(str(smooth_video.save(tmp_path / f"a{suffix}", codec=codec.name))) as container:
        found = container.streams.video[0].codec_context
        assert (found.codec.canonical_name, found.pix_fmt) == (codec.name, codec.pixels)
        matrix, limits = (0, 2) if codec.lossless else (1, 1)
        assert (found.colorspace, found.color_primaries, found.color_trc, found.color_range) == (matrix, 1, 1, limits)


@every
def test_the_same_video_gives_the_same_bytes(suffix, codec, smooth_video, tmp_path):
    contents = {smooth_video.save(tmp_path / f"a{suffix}", codec=codec.name, force=True).read_bytes() for _ in range(3)}
    assert len(contents) == 1


@lossy
def test_a_lower_crf_is_closer_and_larger(suffix, codec, noisy_video, tmp_path):
    sizes, errors = [], []
    for crf in (5, 45):
        path = noisy_video.save(tmp_path / f"{crf}{suffix}", codec=codec.name, crf=crf)
        sizes.append(path.stat().st_size)
        errors.append(np.square(read_video(path)[0].astype(float) - noisy_video.frames).mean())
    assert sizes[0] > sizes[1] and errors[0] < errors[1]


@every
def test_the_file_tells_how_it_was_encoded(suffix, codec, smooth_video, tmp_path):
    path = smooth_video.save(tmp_path / f"a{suffix}", codec=codec.name, upscale=2)
    quality = {} if codec.lossless else {"crf": codec.crf}
    assert read_params(path)["encoding"] == {"upscale": 2, "codec": codec.name, **quality}
    assert read_params(path)["encoding"] == smooth_video.saved_params(path, codec=codec.name, upscale=2)["encoding"]


@lossy
def test_odd_sizes_are_refused_where_two_pixels_share_a_colour(suffix, codec, tmp_path):
    video = Video(frames=np.zeros((2, 31, 64, 3), np.uint8), fps=16.0)
    with refused("size_not_multiple", suffix[1:], codec.name, "64x31", "64x30"):
        video.save(tmp_path / f"a{suffix}", codec=codec.name)
    video.save(tmp_path / f"a{suffix}", codec=codec.name, upscale=2)


REFUSALS = [
    ("a.mp4", {"codec": "vp9"}, "unknown_codec"),
    ("a.webm", {"codec": "vp8"}, "unknown_codec"),
    ("a.mp4", {"crf": 52}, "value_out_of_range"),
    ("a.webm", {"crf": -1}, "value_out_of_range"),
    ("a.webm", {"crf": True}, "not_a_whole_number"),
    ("a.mkv", {"crf": 5}, "options_conflict"),
    ("a.gif", {"codec": "av1"}, "options_conflict"),
    ("frames/", {"crf": 5}, "options_conflict"),
]


@pytest.mark.parametrize("name, choices, code", REFUSALS, ids=lambda value: str(value)[:20].replace("/", ""))
def test_what_a_format_has_not_is_refused_before_and_after_the_work(name, choices, code, smooth_video, tmp_path):
    with refused(code):
        check_output(f"{tmp_path}/{name}", shape=(17, 48, 64), force=False, **choices)
    with refused(code):
        smooth_video.save(f"{tmp_path}/{name}", **choices)
    assert list(tmp_path.iterdir()) == []


def test_each_extension_has_a_default_codec():
    assert {suffix: encoding(container).codec.name for suffix, container in VIDEO.items()} == {
        ".mp4": "h264",
        ".webm": "vp9",
        ".mkv": "ffv1",
    }


@pytest.mark.parametrize("suffix", VIDEO)
def test_damaged_videos_are_refused_by_name(suffix, smooth_video, tmp_path):
    content = smooth_video.save(tmp_path / f"a{suffix}").read_bytes()
    for share in (0, 1, 100):
        (tmp_path / f"short{suffix}").write_bytes(content[: len(content) * share // 1000])
        with refused("media_damaged", f"short{suffix}"):
            read_video(tmp_path / f"short{suffix}")
    with refused("unknown_format", "'.gif'"):
        read_video(tmp_path / "a.gif")


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="priorities of this kind are Linux's")
@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_a_written_video_leaves_the_priority_of_the_process(tmp_path: Path, codec: str) -> None:
    before = os.sched_getscheduler(0)
    Video(frames=np.zeros((3, 64, 64, 3), np.uint8), fps=8.0).save(tmp_path / "video.mp4", codec=codec)
    assert os.sched_getscheduler(0) == before
