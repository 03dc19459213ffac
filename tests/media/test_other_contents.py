"""Other contents of cameras' and editors' files than their image or video: neither read as frames nor in the way."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from kinoform.media.audio_process import _packets
from kinoform.media.read import read_clip, read_image
from kinoform.media.sniff import MATROSKA
from kinoform.media.video_decoder import open_container
from tests.support.narrowing import some
from tests.support.refusals import refused

pytestmark = pytest.mark.usefixtures("here_and_silent")


@pytest.mark.parametrize("second", [Image.new("L", (24, 16), 90), Image.new("RGB", (48, 32), (9, 9, 9))])
def test_a_photograph_with_a_preview_or_a_depth_map_is_one_frame(second, noisy_video, tmp_path):
    photo = Image.fromarray(noisy_video.frames[0])
    photo.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    clip = read_clip(tmp_path / "a.jpg")
    assert clip.frames.shape == (1, 32, 48, 3) and clip.fps is None
    assert np.array_equal(read_image(tmp_path / "a.jpg").pixels, clip.frames[0])


def test_the_image_for_who_shows_no_animation_is_no_frame_of_it(tmp_path):
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (200, 10, 20, 30)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], default_image=True, duration=100)
    clip = read_clip(tmp_path / "a.png")
    assert clip.frames[:, 0, 0, 0].tolist() == [10, 20, 30] and clip.fps == 10


BEHIND = {
    "numbers": bytes(range(1, 200)),
    "digits": b"0123456789abcdef" * 2,
    "zeros": bytes(64),
    "one": b"x",
    "ones": b"\xff" * 100,
    "a box of its own": struct.pack(">I", 32) + b"sefd" + bytes(24),
    "such a box, cut": struct.pack(">I", 320) + b"sefd" + bytes(24),
}


@pytest.mark.parametrize("what", BEHIND)
def test_bytes_behind_the_end_are_left_alone(what, noisy_video, tmp_path):
    for suffix in (".mp4", ".mkv", ".webm", ".gif", ".webp", ".png", ".jpg"):
        path = tmp_path / f"a{suffix}"
        if suffix in (".png", ".jpg"):
            Image.fromarray(noisy_video.frames[0]).save(path)
        else:
            noisy_video.save(path, force=True)
        whole = read_clip(path)
        path.write_bytes(path.read_bytes() + BEHIND[what])
        assert np.array_equal(read_clip(path).frames, whole.frames), suffix


def test_what_is_no_box_before_the_index_is_damage(smooth_video, tmp_path):
    path = smooth_video.save(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes().replace(b"moov", b"maav", 1))
    with refused("media_damaged"):
        read_clip(path)


def tracks(path: Path, marks: Sequence[tuple[int, int]]) -> Path:
    """A video track of one frame for each grey and disposition."""
    with av.open(str(path), "w") as container:
        streams = []
        for _, disposition in marks:
            stream = container.add_stream("ffv1", rate=16)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
            stream.disposition = disposition
            streams.append(stream)
        for stream, (grey, _) in zip(streams, marks, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1, 16)
            container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


FIRST, OTHER = Disposition.default, Disposition.dependent


@pytest.mark.parametrize("marks, grey", [
    ([(50, OTHER), (200, FIRST)], 200), ([(50, FIRST), (200, OTHER)], 50), ([(50, OTHER), (200, OTHER)], 50),
    ([(50, FIRST), (200, FIRST)], 50),
])  # fmt: skip
def test_of_several_video_tracks_the_default_one_is_read_aloud(marks, grey, tmp_path):
    path = tracks(tmp_path / "a.mkv", marks)
    with pytest.warns(UserWarning, match=f"has 2 video tracks; number {[m[0] for m in marks].index(grey) + 1} is"):
        assert (read_clip(path).frames == grey).all()


@pytest.mark.parametrize("starts, last", [((0, 5), 0.4), ((5, 0), 0.9)])
def test_sound_is_that_of_the_video_track_that_is_read(starts, last, tmp_path):
    """Sound of a second; the track that is read is the second one, and either begins half a second late."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        videos = []
        for disposition in (OTHER, FIRST):
            stream = container.add_stream("ffv1", rate=16)
            stream.width, stream.height, stream.pix_fmt, stream.disposition = 64, 48, "bgr0", disposition
            videos.append(stream)
        voice = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        for place in range(10):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 48000, 4800 * place, Fraction(1, 48000)
            container.mux(voice.encode(sound))
            for stream, begins in zip(videos, starts, strict=True):
                if place >= begins:
                    frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
                    frame.pts, frame.time_base = 100 * place, Fraction(1, 1000)
                    stream.codec_context.time_base = Fraction(1, 1000)
                    container.mux(stream.encode(frame))
        for stream in (*videos, voice):
            container.mux(stream.encode(None))
    with path.open("rb") as file:
        source = open_container(file, MATROSKA)
        packets = list(_packets(source, source.streams.audio, 10.0))
    assert abs(float(some(packets[-1].pts) * some(packets[-1].time_base)) - last) < 0.01
