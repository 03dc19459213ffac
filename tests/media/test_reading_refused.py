"""Files of strangers: whatever is in them, the answer is one sentence about the file, and this process goes on."""

import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoform.errors import UsageError
from kinoform.media import decoder_client as child
from kinoform.media import read as reading
from kinoform.media.lengths import mov_end
from kinoform.media.limits import MAX_FRAMES
from kinoform.media.read import read_clip, read_image, read_mask
from kinoform.media.video import Video
from tests.support.refusals import refused as refused_with
from tests.support.strange_media import decoded_here, large_jpeg, large_png, long_gif, write_sound, write_video

DAMAGED = "is damaged or cut short; copy or export it again"


@pytest.fixture
def here(monkeypatch) -> None:
    monkeypatch.setattr(reading, "decoded", decoded_here)


@pytest.fixture
def files(smooth_video, tmp_path) -> dict[str, bytes]:
    """A small file of every kind."""
    video = Video(frames=smooth_video.frames[:5], fps=16.0)
    for suffix in (".mp4", ".webm", ".mkv", ".gif", ".webp"):
        video.save(tmp_path / f"a{suffix}")
    for suffix in (".png", ".jpg"):
        Image.fromarray(video.frames[0]).save(tmp_path / f"a{suffix}")
    Image.fromarray(video.frames[0]).save(tmp_path / "still.webp")
    return {path.name: path.read_bytes() for path in sorted(tmp_path.iterdir())}


def refused(read, path: Path, **options: object) -> str:
    """What a file is refused with, but for its name; a sentence of one line that begins with it."""
    with pytest.raises(UsageError) as found:
        read(path, **options)
    sentence = str(found.value)
    assert sentence.startswith(str(path)) and "\n" not in sentence and len(sentence) < 300 + len(str(path))
    return sentence.removeprefix(str(path)).strip()


def test_a_file_that_is_cut_at_any_tenth_is_refused(files, here, tmp_path):
    for name, content in files.items():
        path = tmp_path / name
        assert len(read_clip(path).frames) in (1, 5)
        for tenth in range(1, 10):
            path.write_bytes(content[: len(content) * tenth // 10])
            assert refused(read_clip, path) == DAMAGED, (name, tenth)
        path.write_bytes(b"")
        assert refused(read_clip, path) == "is empty; save or copy it again"


def test_damage_anywhere_is_read_or_refused_but_breaks_nothing(files, tmp_path):
    """Some hundred files with a few bytes changed, removed or repeated, decoded by one process that must live."""
    draw = np.random.default_rng(0)
    strange = tmp_path / "strange"
    strange.mkdir()
    for name, content in files.items():
        for place in range(40):
            damaged = bytearray(content)
            for at in draw.integers(0, len(content), draw.integers(1, 12)):
                # Headers are where a few bytes do the most harm.
                at = int(at) % (len(content) if place % 2 else min(256, len(content)))
                damaged[at] = draw.integers(256)
            if place % 5 == 0:
                start, end = sorted(draw.integers(0, len(damaged), 2))
                damaged[start:end] = b"" if place % 2 else damaged[start:end] * 2
            (strange / f"{place}{name}").write_bytes(damaged)
    script = f"""
import io, sys, pathlib
from kinoform.errors import UsageError
from kinoform.media import decoder_process as decoding
decoding._limit({{"RLIMIT_AS": 2**32, "RLIMIT_CPU": 60, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}})
read = 0
for path in sorted(pathlib.Path({str(strange)!r}).iterdir()):
    try:
        decoding.decode(decoding.Job(name=path.name, paths=[str(path)], names=[path.name]), io.BytesIO())
        read += 1
    except UsageError as error:
        assert str(error).startswith(path.name), error
print(read, len(list(pathlib.Path({str(strange)!r}).iterdir())))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    read, number = map(int, run.stdout.split())
    assert number == 40 * len(files) and 0 < read < number


HUGE = {
    "png.png": (large_png(13_000, 13_000), r"has 13000x13000 pixels; at most 67108864 are read; make it smaller"),
    "png.webp": (large_png(2**31 - 1, 2**31 - 1), r"has \d{15,} pixels; at most"),
    "a.jpg": (large_jpeg(65_535), r"has 4294836225 pixels; at most"),
    "screen.gif": (long_gif(1, side=65_535), r"has 4294836225 pixels; at most"),
    "long.gif": (long_gif(10**5), rf"has more than {MAX_FRAMES} frames, the most that are read; cut it first"),
}


@pytest.mark.parametrize("name", HUGE)
def test_gigantic_images_are_refused_by_their_header(name, here, tmp_path):
    content, sentence = HUGE[name]
    (tmp_path / name).write_bytes(content)
    for read in (read_image, read_clip, read_mask):
        assert re.match(sentence, refused(read, tmp_path / name))


def test_gigantic_videos_are_refused_by_their_header(here, smooth_video, tmp_path, monkeypatch):
    with monkeypatch.context() as smaller:
        smaller.setattr("kinoform.media.video_decoder.MAX_VIDEO_PIXELS", 3071)
        large = smooth_video.save(tmp_path / "large.mp4")
        assert refused(read_clip, large) == "has 64x48 pixels; at most 3071 a frame are read; make it smaller"
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    long = write_video(tmp_path / "long.mkv", frames, times=[0, 700_000], pixels="bgr0")
    assert refused(read_clip, long) == "lasts 700 s; at most 600 s are read; cut it first"
    slow = write_video(tmp_path / "slow.mkv", frames, times=[0, 500_000], pixels="bgr0")
    assert "gives over 36000 frames" in refused(read_clip, slow, fps=1000.0)


NO_MEDIA = {
    "list.mp4": (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", "is a playlist, which may lead anywhere"),
    "concat.mp4": (b"ffconcat version 1.0\nfile 'a.mp4'\n", "is a playlist"),
    "files.mov": (b"file '/etc/passwd'\n", "is a playlist"),
    "dash.mp4": (b"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'/>", "is a playlist"),
    "drawing.png": (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
    "photo.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIF or AVIF image, which is not read; save"),
    "old.mp4": (b"RIFF\0\0\0\0AVI LIST", r"is no png, .* file: it begins with b'RIFF"),
    "text.png": (b"hello, world", r"is no png, .* file: it begins with b'hello, w'; convert"),
}


@pytest.mark.parametrize("name", NO_MEDIA)
def test_what_is_no_image_and_no_video_is_refused_by_kind(name, here, tmp_path):
    content, sentence = NO_MEDIA[name]
    (tmp_path / name).write_bytes(content)
    for read in (read_image, read_clip, read_mask):
        assert re.match(sentence, refused(read, tmp_path / name))


def test_sound_alone_no_frame_and_strange_codecs_are_refused(here, smooth_video, tmp_path):
    sound = write_sound(tmp_path / "sound.mp4")
    assert refused(read_clip, sound) == "has sound but no image; give a video"
    nothing = np.zeros((0, 16, 16, 3), np.uint8)
    empty = write_video(tmp_path / "empty.mkv", nothing, pixels="bgr0")
    assert refused(read_clip, empty) == "has no frame; give another video"
    empty = write_video(tmp_path / "empty.mp4", nothing, encoder="libx264", pixels="yuv420p")
    assert refused(read_clip, empty) == "has no image; give a video"
    frames = smooth_video.frames[:2]
    rare = write_video(tmp_path / "rare.mov", frames, encoder="qtrle", pixels="rgb24")
    assert refused(read_clip, rare) == "is coded as qtrle, which is not read; convert it to h264 in an mp4 file"


def test_a_video_is_no_image(here, smooth_video, tmp_path):
    path = smooth_video.save(tmp_path / "a.mp4")
    assert refused(read_image, path) == "is a video, not an image; give a png, jpeg or webp file"


def test_paths_that_are_no_file_are_refused(smooth_video, tmp_path):
    assert refused(read_clip, tmp_path / "missing.mp4") == "does not exist; check the name"
    (tmp_path / "empty").mkdir()
    assert refused(read_clip, tmp_path / "empty").startswith("holds no images (.gif, .jpeg, .jpg, .png, .webp)")
    os.mkfifo(tmp_path / "pipe.png")
    assert refused(read_image, tmp_path / "pipe.png") == "is not a regular file; save it as one first"
    with refused_with("file_unreadable", r"a\x00b.png"):
        read_image("a\0b.png")
    folder = smooth_video.save(tmp_path / "frames/")
    assert refused(read_image, folder) == "is a folder of 17 images; give one of them"


def test_frames_of_several_sizes_are_refused_by_name(here, noisy_video, tmp_path):
    folder = noisy_video.save(tmp_path / "frames/")
    Image.new("RGB", (8, 4)).save(folder / "frame_00003.png")
    with refused_with("sizes_differ", "frame_00003.png", "8x4", "frame_00000.png", "48x32"):
        read_clip(folder)
    (folder / "frame_00003.png").write_bytes(b"no image")
    with refused_with("media_unsupported", "frame_00003.png"):
        read_clip(folder)


def test_above_the_caps_of_bytes_and_pixels_nothing_is_decoded(monkeypatch, here, smooth_video, tmp_path):
    path = smooth_video.save(tmp_path / "a.mp4")
    with path.open("ab") as file:
        file.truncate(2**30 + 1)  # takes no room on the disk
    assert refused(read_clip, path).startswith("takes 1024 MiB; at most 1024 MiB are read")
    path = smooth_video.save(tmp_path / "b.mp4")
    monkeypatch.setattr("kinoform.media.resample.MAX_RESULT", 17 * 48 * 64 * 3 - 1)
    assert refused(read_clip, path).startswith("gives 17 frames of 64x48, over")
    with pytest.warns(UserWarning, match="is cut to 16 frames"):
        assert len(read_clip(path, num_frames=16).frames) == 16


@pytest.mark.parametrize("options", [{"fps": 0.0}, {"fps": float("nan")}, {"fps": 1e9}, {"num_frames": 0}])
def test_rates_and_numbers_out_of_range_are_refused(options, smooth_video, tmp_path):
    path = smooth_video.save(tmp_path / "a.mp4")
    for read in (read_clip, read_mask):
        with refused_with("value_out_of_range", next(iter(options))):
            read(path, **options)


# Of the process that decodes, and what it may do.


def test_the_process_gives_what_this_one_would(smooth_video, tmp_path):
    for name in ("a.mp4", "frames/"):
        path = smooth_video.save(tmp_path / name)
        apart = read_clip(path).frames
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "decoded", decoded_here)
            assert np.array_equal(apart, read_clip(path).frames)
    path.joinpath("frame_00004.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with refused_with("media_damaged", "frame_00004.png"):
        read_clip(path)


def test_the_code_of_a_refusal_comes_through(tmp_path):
    for name, content, code in (
        ("a.png", b"\x89PNG\r\n\x1a\n", "media_damaged"),
        ("a.mp4", b"hello", "media_unsupported"),
    ):
        (tmp_path / name).write_bytes(content)
        with refused_with(code):
            read_clip(tmp_path / name)


HOSTILE = {
    "sleeps": ("import time; time.sleep(60)", "media_too_large"),
    "crashes": ("import os; os.kill(os.getpid(), 11)", "media_too_large"),
    "exits": ("raise SystemExit(3)", "decoder_ended"),
    "lies": ("print('h[9999999, 9999999, 3]')", "decoder_ended"),
    "babbles": ("print('f' * 10**6)", "decoder_ended"),
    "ends early": ("print('h[9, 9, 3]'); print('f')", "decoder_ended"),
    "stands nowhere": ('print(\'h[1, 1, 1]\\nfxe{"fps": null, "notes": [], "stance": [1, 2, "a"]}\')', "decoder_ended"),
    "makes up a code": ('print(\'x{"error": "is bad", "code": "A b"}\')', "decoder_ended"),
    "sends no number": ('print(\'h[1, 1, 1]\\nfxe{"fps": "a", "notes": []}\')', "decoder_ended"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_process_that_was_taken_over_can_do_nothing_here(what, smooth_video, tmp_path, monkeypatch):
    script, code = HOSTILE[what]
    monkeypatch.setattr(child, "START", script)
    monkeypatch.setattr("kinoform.media.limits.MAX_DECODING", 0 if what == "sleeps" else 60)
    monkeypatch.setattr(child, "GRACE", 0.2)
    with refused_with(code, "a.mp4"):
        read_clip(smooth_video.save(tmp_path / "a.mp4"))


@pytest.mark.parametrize("script", [
    """print('x{"error": "a\\\\u001b[2J", "code": "bad"}')""",
    """print('h[1, 1, 3]\\nfabce{"fps": null, "times": null, "notes": ["a\\\\u001b[2J"]}')""",
])  # fmt: skip
def test_nothing_that_such_a_process_says_reaches_a_terminal_raw(script, smooth_video, tmp_path, monkeypatch):
    monkeypatch.setattr(child, "START", f"import sys; sys.stdin.read(); {script}")  # or nobody could hand it the job
    path, said = smooth_video.save(tmp_path / "a.mp4"), []
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        try:
            read_clip(path)
        except UsageError as error:
            said.append(str(error))
    (sentence,) = [*said, *(str(note.message) for note in notes)]
    assert sentence.isprintable() and r"\x1b[2J" in sentence


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit time alone")
def test_memory_and_disk_of_the_process_are_limited(smooth_video, tmp_path, monkeypatch):
    replaced = "from kinoform.media import decoder_process as d; d._single = lambda *_: {act}; d.main()"
    start = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); " + replaced
    path = smooth_video.save(tmp_path / "a.mp4")
    monkeypatch.setattr(child, "START", start.format(act="bytes(2**33)"))
    assert refused(read_clip, path) == "needs over 4 GiB to decode; make it smaller"
    left = tmp_path / "left"
    monkeypatch.setattr(child, "START", start.format(act=f"open({str(left)!r}, 'w').write('x' * 10**5)"))
    assert refused(read_clip, path) == DAMAGED
    assert left.stat().st_size == 0


def test_the_process_starts_light():
    """It must not load torch, and a program that reads nothing yet must not load FFmpeg."""
    script = (
        "import sys, kinoform.media.read, kinoform.media.coerce; print('torch' in sys.modules, 'av' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def test_modules_in_the_current_folder_are_not_imported(smooth_video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    for name in ("json.py", "numpy.py", "PIL.py", "av.py"):
        (tmp_path / name).write_text("raise SystemExit(1)")
    assert len(read_clip(smooth_video.save("a.mp4")).frames) == 17


def box(kind: bytes, size: int = 8) -> bytes:
    return size.to_bytes(4, "big") + kind + bytes(size - 8)


def test_only_what_follows_the_index_of_an_mp4_may_be_no_box() -> None:
    for content, end in ((box(b"ftyp", 16) + box(b"moov", 24), 40), (box(b"moov") + b"camera's own bytes", 8)):
        assert mov_end(io.BufferedReader(io.BytesIO(content)), len(content)) == end
    damaged = box(b"ftyp", 16) + b"camera's own bytes" + box(b"moov")
    with pytest.raises(ValueError, match="box 2"):
        mov_end(io.BufferedReader(io.BytesIO(damaged)), len(damaged))
