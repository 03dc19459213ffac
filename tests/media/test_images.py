"""Videos as images: png keeps every bit, gif and webp keep the length, names choose the format."""

import jaxtyping
import numpy as np
import pytest
from PIL import Image, ImageSequence

from kinoform.errors import UsageError
from kinoform.media.video import Video, check_output
from tests.support.refusals import refused


@pytest.mark.parametrize("name", ["frames", "frames/", "with.dot/"])
def test_a_folder_of_frames_is_bit_exact(name, noisy_video, tmp_path):
    folder = noisy_video.save(f"{tmp_path}/{name}")
    names = [f"frame_{place:05d}.png" for place in range(len(noisy_video.frames))]
    assert sorted(path.name for path in folder.iterdir()) == names
    read = np.stack([np.asarray(Image.open(folder / name)) for name in names])
    assert np.array_equal(read, noisy_video.frames)


def test_one_frame_is_one_png(noisy_video, tmp_path):
    still = Video(frames=noisy_video.frames[:1], fps=16.0)
    assert np.array_equal(np.asarray(Image.open(still.save(tmp_path / "a.PNG"))), still.frames[0])
    with refused("one_frame_only"):
        noisy_video.save(tmp_path / "b.png")


def test_upscale_repeats_pixels(noisy_video, tmp_path):
    folder = noisy_video.save(tmp_path / "frames", upscale=3)
    large = np.asarray(Image.open(folder / "frame_00004.png"))
    assert large.shape == (96, 144, 3)
    for row in range(3):
        for column in range(3):
            assert np.array_equal(large[row::3, column::3], noisy_video.frames[4])
    for factor in (0, -1):
        with refused("value_out_of_range", "upscale"):
            noisy_video.save(tmp_path / "other", upscale=factor)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("fps", [7.0, 16.0, 24.0])
def test_animations_keep_images_and_length(suffix, fps, smooth_video, tmp_path):
    video = Video(frames=smooth_video.frames, fps=fps)
    with Image.open(video.save(tmp_path / f"a{suffix}")) as image:
        assert image.n_frames == 17
        assert image.info["loop"] == 0
        frames, total = [], 0
        for frame in ImageSequence.Iterator(image):
            frames.append(np.asarray(frame.convert("RGB")))
            total += frame.info["duration"]
    assert abs(total - 17000 / fps) <= 5
    assert np.abs(np.stack(frames).astype(float) - video.frames).mean() < 6


def test_an_unknown_extension_names_the_nearest(noisy_video, tmp_path):
    with refused("unknown_format", "'.mp3'", "'.mp4'"):
        noisy_video.save(tmp_path / "a.mp3")
    with refused("unknown_format", ".mp4"):
        noisy_video.save(tmp_path / "wan2.1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "frames, fps, code",
    [
        (np.zeros((0, 8, 8, 3), np.uint8), 16.0, "wrong_type"),
        (np.zeros((2, 8, 8, 4), np.uint8), 16.0, "wrong_type"),
        (np.zeros((2, 8, 8, 3), np.float32), 16.0, "wrong_type"),
        (np.zeros((2, 8, 8, 3), np.uint8), 0.0, "value_out_of_range"),
        (np.zeros((2, 8, 8, 3), np.uint8), float("nan"), "value_out_of_range"),
        (np.zeros((2, 8, 8, 3), np.uint8), float("inf"), "value_out_of_range"),
    ],
)
def test_what_is_no_video_is_refused(frames, fps, code, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside tests
    with refused(code):
        Video(frames=frames, fps=fps)


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.gif", "a.webp", "frames/", "a.avi"])
@pytest.mark.parametrize("shape", [(1, 32, 32), (1, 31, 32), (2, 32, 32)])
@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("force", [False, True])
def test_the_check_before_the_work_is_the_check_after_it(name, shape, taken, force, tmp_path):
    video, path = Video(frames=np.zeros((*shape, 3), np.uint8), fps=16.0), f"{tmp_path}/{name}"
    if taken and name.endswith("/"):
        video.save(path)
    elif taken:
        (tmp_path / name).write_text("before")
    try:
        check_output(path, shape=shape, force=force)
    except UsageError as error:
        with pytest.raises(UsageError) as late:
            video.save(path, force=force)
        assert str(late.value) == str(error)
    else:
        assert video.save(path, force=force).exists()
