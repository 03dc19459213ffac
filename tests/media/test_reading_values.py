"""Values of a program become the same material as files of them."""

import warnings

import jaxtyping
import numpy as np
import pytest
from PIL import Image

from kinoform.media.coerce import clip_of, image_of, mask_of
from kinoform.media.read import read_clip, read_image, read_mask
from kinoform.media.types import InputImage, InputVideo, Mask, Origin
from kinoform.media.video import Video
from tests.support.refusals import refused

ORIGIN = Origin(file="a.mp4", sha256="0" * 64)


pytestmark = pytest.mark.usefixtures("here_and_silent")


@pytest.fixture
def pixels(noisy_video) -> np.ndarray:
    return noisy_video.frames[0]


def test_one_image_in_every_form_is_the_same_image(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    opaque = np.concatenate([pixels, np.full((32, 48, 1), 255, np.uint8)], axis=2)
    image = Image.fromarray(pixels)
    forms = [tmp_path / "a.png", str(tmp_path / "a.png"), pixels, pixels / 255, (pixels / 255).astype(np.float32)]
    for form in [*forms, opaque, image, image.convert("RGBA"), InputImage(pixels=pixels)]:
        assert np.array_equal(image_of(form).pixels, pixels)
    assert image_of(tmp_path / "a.png").origin == read_image(tmp_path / "a.png").origin
    kept = InputImage(pixels=pixels, origin=ORIGIN)
    assert image_of(kept) is kept


def test_one_video_in_every_form_is_the_same_video(noisy_video, tmp_path):
    frames = noisy_video.frames
    path = noisy_video.save(tmp_path / "a.mkv")
    images = [Image.fromarray(each) for each in frames]
    names = sorted(noisy_video.save(tmp_path / "frames/").iterdir())
    mixed = [frames[0], images[1], names[2], InputImage(pixels=frames[3]), frames[4] / 255, frames[5]]
    for form in (
        path,
        frames,
        frames / 255,
        noisy_video,
        InputVideo(frames=frames),
        images,
        tuple(images),
        names,
        mixed,
    ):
        assert np.array_equal(clip_of(form).frames, frames)
    assert [clip_of(form).fps for form in (path, noisy_video, frames, images)] == [16, 16, None, None]
    assert clip_of(path).origin == read_clip(path).origin


def test_one_mask_in_every_form_is_the_same_mask(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    for form in (
        tmp_path / "a.png",
        grey,
        grey / 255,
        Image.fromarray(grey),
        grey[None],
        [grey],
        Mask(values=grey[None]),
    ):
        assert np.array_equal(mask_of(form).values, grey[None])
    assert np.array_equal(mask_of(grey > 127).values, np.where(grey > 127, 255, 0)[None])
    several = np.stack([grey, 255 - grey])
    Image.new("L", (16, 16)).save(tmp_path / "black.png")
    assert mask_of([tmp_path / "black.png", grey]).values.max(axis=(1, 2)).tolist() == [0, 255]
    for form in (several, list(several), [tmp_path / "a.png", 255 - grey], several[..., None].repeat(3, axis=3)):
        assert np.array_equal(mask_of(form).values, several)


@pytest.mark.parametrize("fps, num_frames", [(16.0, None), (60.0, None), (8.0, 4), (None, 5)])
def test_a_clip_is_taken_as_its_file_is(fps, num_frames, smooth_video, tmp_path):
    video = Video(frames=smooth_video.frames, fps=30.0)
    path = video.save(tmp_path / "a.mkv")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        clips = [clip_of(form, fps=fps, num_frames=num_frames) for form in (path, read_clip(path), video)]
    for clip in clips:
        assert np.array_equal(clip.frames, clips[0].frames) and clip.fps == clips[0].fps
    assert clips[1].origin == clips[0].origin
    assert len(said) % 3 == 0
    assert np.array_equal(clip_of(smooth_video.frames, fps=24.0).frames, smooth_video.frames)
    assert clip_of(smooth_video.frames, fps=24.0).fps == 24


def test_masks_are_cut_aloud_and_need_white(tmp_path):
    mask = np.zeros((5, 8, 8), np.uint8)
    mask[2] = 255
    with pytest.warns(UserWarning, match="the mask is cut to 3 frames"):
        assert len(mask_of(mask, num_frames=3).values) == 3
    with pytest.warns(UserWarning, match="cut to 2"), refused("mask_empty"):
        mask_of(mask, num_frames=2)
    for form in (mask[0], Mask(values=mask[:1]), [mask[0]]):
        with refused("mask_empty", "0 of 255"):
            mask_of(form)


def test_what_is_lost_is_said(pixels):
    clear = np.zeros((32, 48, 4), np.uint8)
    with pytest.warns(UserWarning, match="the image is transparent in places; white"):
        assert (image_of(clear).pixels == 255).all()
    with pytest.warns(UserWarning, match="the mask has colours"):
        mask_of(pixels)


BAD = [
    (image_of, np.full((8, 8, 3), -0.5), "value_out_of_range", "-0.5"),
    (image_of, np.full((8, 8, 3), 128.0), "value_out_of_range", "128"),
    (image_of, np.full((8, 8, 3), np.nan), "value_out_of_range", "nan"),
    (image_of, np.zeros((8, 8, 3), np.int64), "wrong_type", "int64"),
    (image_of, np.zeros((8, 8, 2), np.uint8), "wrong_type", "[8, 8, 2]"),
    (image_of, np.zeros((0, 8, 3), np.uint8), "wrong_type", "[0, 8, 3]"),
    (image_of, np.zeros((2, 8, 8, 3), np.uint8), "wrong_type", "[2, 8, 8, 3]"),
    (image_of, None, "wrong_type", "NoneType"),
    (image_of, [1, 2], "wrong_type", "list"),
    (clip_of, np.zeros((8, 8, 3), np.uint8), "wrong_type", "ndarray [8, 8, 3]"),
    (clip_of, [], "frames_missing", "frame"),
    (clip_of, np.zeros((0, 8, 8, 3), np.uint8), "frames_missing", "frame"),
    (clip_of, [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], "sizes_differ", "9x8"),
    (clip_of, b"a.mp4", "wrong_type", "bytes"),
    (mask_of, np.zeros(8, np.uint8), "wrong_type", "[8]"),
    (mask_of, 3, "wrong_type", "int"),
    (mask_of, [], "frames_missing", "mask"),
]


@pytest.mark.parametrize("make, value, code, named", BAD)
def test_other_values_are_refused(make, value, code, named, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside tests
    with refused(code, named):
        make(value)


def test_a_mask_is_read_at_the_rate_of_its_video(tmp_path):
    moving = np.zeros((30, 16, 16, 3), np.uint8)
    moving[15:] = 255
    path = Video(frames=moving, fps=30.0).save(tmp_path / "a.mkv")
    with pytest.warns(UserWarning, match="gives 16 frames at 16 per second"):
        mask = read_mask(path, fps=16.0)
    assert mask.values[:, 0, 0].tolist() == [0] * 8 + [255] * 8
