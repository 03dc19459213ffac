"""Whatever an image or a video is kept in, its pixels come back as a person sees them, and what changed is said."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from kinoform.media.codecs import VIDEO
from kinoform.media.read import read_clip, read_image, read_mask
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video
from tests.support.narrowing import some
from tests.support.refusals import refused


@pytest.fixture
def pixels(noisy_video) -> np.ndarray:
    return noisy_video.frames[0]


pytestmark = pytest.mark.usefixtures("here_and_silent")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".gif"])
def test_images_of_every_format_come_back(suffix, smooth_video, tmp_path):
    pixels = smooth_video.frames[0]
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", lossless=True, quality=95, subsampling=0)
    image = read_image(tmp_path / f"a{suffix}")
    allowed = {".png": 0, ".webp": 0, ".jpg": 4, ".gif": 40}[suffix]
    assert np.abs(image.pixels.astype(int) - pixels).max() <= allowed
    assert image.size == (48, 64)


def test_contents_and_not_the_name_decide(pixels, smooth_video, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.mp4", "PNG")
    assert np.array_equal(read_image(tmp_path / "a.mp4").pixels, pixels)
    smooth_video.save(tmp_path / "a.mkv").rename(tmp_path / "a.png")
    assert np.array_equal(read_clip(tmp_path / "a.png").frames, smooth_video.frames)


def test_the_origin_is_the_plain_name_and_the_hash_of_the_bytes(pixels, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    origin = read_image(path).origin
    assert (some(origin).file, some(origin).sha256) == ("a.png", hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("name", ["a b'\"$(x).png", "-o.png", "http:x.png", "é😀.png", "a\nb\x1b[31m.png", b"\xff.png"])
def test_any_name_will_do(name, pixels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(name)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    (tmp_path / "plain.png").rename(tmp_path / name)
    image = read_image(name)
    assert np.array_equal(image.pixels, pixels)
    assert image.name.isprintable() and image.name.encode()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_images_of_every_mode_look_the_same(mode, pixels, tmp_path):
    image = Image.fromarray(pixels).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path, quality=100)
    expected = np.asarray((Image.open(path) if mode == "CMYK" else image).convert("RGB"))
    assert np.array_equal(read_image(path).pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_obeyed(orientation, pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    found = read_image(tmp_path / "a.png").pixels
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    assert np.array_equal(found, expected)
    assert (found.shape == pixels.shape) == (orientation < 5)


def test_white_is_put_behind_what_is_transparent(pixels, tmp_path):
    alpha = np.zeros((32, 48, 1), np.uint8)
    alpha[:, 16:32], alpha[:, 32:] = 128, 255
    Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"a\.png is transparent in places; white"):
        found = read_image(tmp_path / "a.png").pixels
    assert (found[:, :16] == 255).all() and np.array_equal(found[:, 32:], pixels[:, 32:])
    half = pixels[:, 16:32] * (128 / 255) + 127
    assert np.abs(found[:, 16:32] - half).max() <= 0.5001


def test_a_image_with_alpha_that_hides_nothing_is_just_a_image(pixels, tmp_path):
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, pixels)


def test_16_bits_of_grey_become_8(tmp_path):
    grey = np.arange(0, 2**16, 257, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="16 bits"):
        found = read_image(tmp_path / "a.png").pixels
    assert np.array_equal(found, (grey // 257).astype(np.uint8)[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_of_an_animation_the_first_frame_is_the_image(suffix, smooth_video, tmp_path):
    path = smooth_video.save(tmp_path / f"a{suffix}")
    with pytest.warns(UserWarning, match="has 17 frames; the first is taken"):
        image = read_image(path)
    assert np.array_equal(image.pixels, read_clip(path).frames[0])


@pytest.mark.parametrize("suffix", VIDEO)
@pytest.mark.parametrize("fps", [16.0, 24000 / 1001])
def test_videos_come_back_as_written(suffix, fps, smooth_video, tmp_path):
    path = Video(frames=smooth_video.frames, fps=fps).save(tmp_path / f"a{suffix}")
    clip = read_clip(path)
    assert np.abs(clip.frames.astype(int) - read_video(path)[0]).max() <= 1
    assert clip.fps == pytest.approx(fps, abs=1e-3)
    assert some(clip.origin).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_come_back_with_their_pace(suffix, smooth_video, tmp_path):
    clip = read_clip(smooth_video.save(tmp_path / f"a{suffix}"))
    assert clip.frames.shape == smooth_video.frames.shape
    assert np.abs(clip.frames.astype(float) - smooth_video.frames).mean() < 6
    assert clip.fps == pytest.approx(16, rel=0.01)


def test_a_folder_is_read_in_natural_order_and_without_other_files(noisy_video, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    names = ["2.png", "10.PNG", "1.png", "a2.png", "a10.png", "a1.png"]
    order = ["1.png", "2.png", "10.PNG", "a1.png", "a2.png", "a10.png"]
    for name, pixels in zip(names, noisy_video.frames, strict=True):
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._1.png").write_bytes(b"left by another system")
    clip = read_clip(folder)
    assert np.array_equal(clip.frames, np.stack([noisy_video.frames[names.index(name)] for name in order]))
    assert clip.fps is None and read_clip(folder, fps=16.0).fps == 16
    assert some(clip.origin).file == "frames"


def test_the_hash_of_a_folder_depends_on_names_and_bytes_alone(noisy_video, tmp_path):
    first, second = (noisy_video.save(tmp_path / name) for name in ("0/", "1/"))
    before = some(read_clip(first).origin).sha256
    assert before == some(read_clip(second).origin).sha256
    (second / "frame_00005.png").rename(second / "frame_00006.png")
    assert before != some(read_clip(second).origin).sha256


def test_a_image_is_a_video_of_one_frame(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    clip = read_clip(tmp_path / "a.png")
    assert np.array_equal(clip.frames, pixels[None]) and clip.fps is None


def test_the_same_file_gives_the_same_pixels(smooth_video, tmp_path):
    path = smooth_video.save(tmp_path / "a.mp4")
    assert np.array_equal(read_clip(path).frames, read_clip(path).frames)


def test_greys_of_a_mask_stay(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png").values, grey[None])
    video = Video(frames=np.broadcast_to(grey[None, ..., None], (3, 16, 16, 3)).copy(), fps=16.0)
    assert np.array_equal(read_mask(video.save(tmp_path / "a.mkv")).values, grey[None].repeat(3, axis=0))


@pytest.mark.parametrize("paint", [(0, 0, 0), (255, 255, 255), (200, 10, 30)])
def test_what_is_painted_on_a_transparent_ground_is_the_mask(paint, tmp_path):
    alpha = np.zeros((16, 16), np.uint8)
    alpha[4:9, 4:9], alpha[9, 4:9] = 255, 100
    painted = np.zeros((16, 16, 4), np.uint8)
    painted[alpha > 0, :3], painted[..., 3] = paint, alpha
    Image.fromarray(painted).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="painted in one colour"):
        assert np.array_equal(read_mask(tmp_path / "a.png").values, alpha[None])


def test_colours_of_a_mask_are_said_to_be_lost(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="only their brightness"):
        found = read_mask(tmp_path / "a.png").values[0]
    assert np.array_equal(found, np.asarray(Image.fromarray(pixels).convert("L")))


@pytest.mark.parametrize("brightest", [0, 127])
def test_a_mask_without_white_is_refused(brightest, tmp_path):
    Image.new("L", (16, 16), brightest).save(tmp_path / "a.png")
    with refused("mask_empty", "a.png", f"{brightest} of 255"):
        read_mask(tmp_path / "a.png")
