"""One process for many files: what each gives is what a process of its own gives, and none reaches the next."""

import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from kinoform.media import decoder_client, shared_decoder
from kinoform.media.read import read_clip, read_header, read_image, read_mask
from kinoform.media.shared_decoder import SharedDecoder
from kinoform.media.video import Video
from tests.support.refusals import refused

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there"),
    pytest.mark.filterwarnings("ignore"),
]

START = """import json, os, sys, time; sys.path[:] = json.loads(sys.argv[1])
from kinoform.media import decoder_process as d
honest = d._single
def single(file, *rest):
    if "bad" not in file.name: return honest(file, *rest)
    ACT
d._single = single
from kinoform.media.decoder_server import main; main()"""

HOSTILE = {
    "crashes": ("os.kill(os.getpid(), 11)", "media_too_large"),
    "ends": ("os._exit(3)", "decoder_ended"),
    "sleeps": ("time.sleep(60)", "media_too_large"),
    "takes memory": ("bytes(2**33)", "media_too_large"),
    "kills the process above it": ("os.kill(os.getppid(), 9); os._exit(0)", "media_too_large"),
    "leaves something behind": ("d._images = d._named = None; raise ValueError", "media_damaged"),
}


@pytest.fixture
def video(smooth_video) -> Video:
    return Video(frames=smooth_video.frames[:9], fps=16.0)


def test_many_files_are_read_as_by_a_process_each(video, tmp_path):
    paths = [video.save(tmp_path / name) for name in ("a.mp4", "b.mkv", "c.gif", "frames/")]
    with SharedDecoder() as decoder:
        for path in paths:
            shared, alone = read_clip(path, decoder=decoder), read_clip(path)
            assert np.array_equal(shared.frames, alone.frames) and shared.fps == alone.fps
        image = read_image(paths[3] / "frame_00000.png", decoder=decoder)
        assert np.array_equal(image.pixels, video.frames[0])
        with refused("media_unsupported", "text.png"):
            (tmp_path / "text.png").write_bytes(b"hello")
            read_mask(tmp_path / "text.png", decoder=decoder)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_ends_its_own_process_and_the_next_is_read(what, video, tmp_path, monkeypatch):
    act, code = HOSTILE[what]
    monkeypatch.setattr(decoder_client, "START", START.replace("ACT", act))
    if what == "sleeps":
        monkeypatch.setattr("kinoform.media.limits.MAX_DECODING", 0)
        monkeypatch.setattr(shared_decoder, "GRACE", 0.5)
    bad, good = video.save(tmp_path / "bad.mp4"), video.save(tmp_path / "good.mp4")
    with SharedDecoder() as decoder:
        with refused(code, "bad.mp4"):
            read_clip(bad, decoder=decoder)
        monkeypatch.undo()
        assert len(read_clip(good, decoder=decoder).frames) == 9


def test_headers_say_how_many_frames_there_are_and_how_they_are_shown(video, tmp_path):
    kinds = {"a.mp4": False, "b.mkv": True, "c.gif": True, "frames/": False}
    with SharedDecoder() as decoder:
        for name, counted in kinds.items():
            path = video.save(tmp_path / name)
            header, origin = read_header(path, decoder=decoder)
            read = read_clip(path, decoder=decoder)
            assert (header.num_frames, header.height, header.width) == read.frames.shape[:3], name
            assert (header.counted, origin) == (counted, read.origin)
            assert header.seconds == (None if name == "frames/" else pytest.approx(Fraction(9, 16), abs=0.03))
            for fps in (8.0, 16.0, 24.0):
                assert header.frames_at(fps) == len(read_clip(path, fps=fps, decoder=decoder).frames), (name, fps)
        Image.fromarray(video.frames[0]).save(tmp_path / "a.png")
        header, _ = read_header(tmp_path / "a.png", decoder=decoder)
        assert (header.num_frames, header.frames_at(24.0), header.seconds) == (1, 1, None)


def test_reading_may_begin_at_any_frame_of_the_rate_asked_for(video, tmp_path):
    path = video.save(tmp_path / "a.mkv")
    with SharedDecoder() as decoder:
        for fps in (None, 8.0, 24.0):
            whole = read_clip(path, fps=fps, decoder=decoder).frames
            part = read_clip(path, fps=fps, start=2, num_frames=3, decoder=decoder)
            assert np.array_equal(part.frames, whole[2:5]) and part.fps == (fps or 16.0)
        with refused("start_beyond_end", "a.mkv"):
            read_clip(path, start=9, decoder=decoder)
        Image.fromarray(video.frames[0]).save(tmp_path / "a.png")
        assert len(read_clip(tmp_path / "a.png", start=5, decoder=decoder).frames) == 1
