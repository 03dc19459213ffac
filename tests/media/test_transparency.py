"""Transparency is seen wherever it is kept: white goes behind it, and of a mask it is the paint or the hole."""

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec import CodecContext
from av.codec.codec import UnknownCodecError
from PIL import Image

from kinoform.media.coerce import mask_of
from kinoform.media.read import read_clip, read_image, read_mask
from tests.support.refusals import refused
from tests.support.strange_media import PQ, decoded_here, write_video

HIDDEN, PAINT = (200, 0, 0), (0, 200, 0)
PLACE = (slice(12, 36), slice(16, 48))


@pytest.fixture(autouse=True)
def _here_and_silent(monkeypatch):
    monkeypatch.setattr("kinoform.media.read.decoded", decoded_here)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(bits per colour|is HDR)")
        yield


def box() -> np.ndarray:
    """Green paint on a transparent ground, under which nobody sees red."""
    pixels = np.empty((48, 64, 4), np.uint8)
    pixels[...] = (*HIDDEN, 0)
    pixels[PLACE] = (*PAINT, 255)
    return pixels


def photograph() -> np.ndarray:
    """Many colours, and a hole."""
    y, x = np.mgrid[:48, :64]
    pixels = np.stack([5 * y, 4 * x, 255 - 2 * (x + y), np.full_like(x, 255)], axis=-1).astype(np.uint8)
    pixels[(*PLACE, 3)] = 0
    return pixels


def video(path: Path, pixels: np.ndarray, encoder: str, kind: str, tags: dict[str, str] | None = None) -> Path:
    with av.open(str(path), "w") as container:
        options = {"auto-alt-ref": "0", "crf": "4", "b": "1M"} if encoder.startswith("libvpx") else {}
        stream = container.add_stream(encoder, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, kind
        stream.metadata.update(tags or {})
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=kind)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def animation(path: Path, pixels: np.ndarray) -> Path:
    second = pixels.copy()
    second[0, 0, 0] ^= 255
    images = [Image.fromarray(each) for each in (pixels, second)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=100, lossless=True, disposal=2)
    return path


VIDEOS = {
    "vp8.webm": lambda path, pixels: video(path, pixels, "libvpx", "yuva420p"),
    "vp9.webm": lambda path, pixels: video(path, pixels, "libvpx-vp9", "yuva420p"),
    "vp9.mkv": lambda path, pixels: video(path, pixels, "libvpx-vp9", "yuva420p"),
    "4444.mov": lambda path, pixels: video(path, pixels, "prores_ks", "yuva444p10le"),
    "bgra.mkv": lambda path, pixels: video(path, pixels, "ffv1", "bgra"),
    "yuva.mkv": lambda path, pixels: video(path, pixels, "ffv1", "yuva444p"),
    "deep.mkv": lambda path, pixels: video(path, pixels, "ffv1", "gbrap16le"),
    "a.gif": animation,
    "a.webp": animation,
    "a.png": animation,
}


@pytest.mark.parametrize("name", VIDEOS)
def test_white_is_put_behind_and_the_paint_is_the_mask(name, tmp_path):
    path = VIDEOS[name](tmp_path / name, box())
    with pytest.warns(UserWarning, match="transparent in places; white is put behind it"):
        frames = read_clip(path).frames.astype(int)
    assert (frames[:, 2, 2] > 247).all() and np.abs(frames[:, 24, 32] - PAINT).max() < 12
    with pytest.warns(UserWarning, match="painted in one colour on a transparent ground; what is painted changes"):
        mask = read_mask(path).values
    assert (mask[:, 2, 2] < 8).all() and (mask[:, 24, 32] > 247).all()


@pytest.mark.parametrize("name", [name for name in VIDEOS if name != "a.gif"])
def test_the_hole_of_a_photograph_is_the_mask(name, tmp_path):
    path = VIDEOS[name](tmp_path / name, photograph())
    with pytest.warns(UserWarning, match="an image with a transparent hole; the hole changes"):
        mask = read_mask(path).values
    assert (mask[:, 24, 32] > 247).all() and (mask[:, 2, 2] < 8).all() and (mask[:, 40, 60] < 8).all()


def test_the_hole_is_the_mask_in_arrays_and_images_of_pillow_too(tmp_path):
    hole = np.where(photograph()[..., 3] == 0, 255, 0)[None]
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    for value in (photograph(), Image.fromarray(photograph()), tmp_path / "a.png", [photograph()]):
        with pytest.warns(UserWarning, match="the hole changes"):
            assert np.array_equal(mask_of(value).values, hole)


def test_one_meaning_holds_for_all_frames_of_a_mask(tmp_path):
    """A frame that is painted all over is white everywhere, whatever the colour of the paint."""
    everywhere = np.full((48, 64, 4), (*PAINT, 255), np.uint8)
    nowhere = np.zeros((48, 64, 4), np.uint8)
    for place, pixels in enumerate((nowhere, box(), everywhere)):
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
    with pytest.warns(UserWarning, match="painted in one colour"):
        values = read_mask(tmp_path).values
    with pytest.warns(UserWarning, match="painted in one colour"):
        assert np.array_equal(mask_of([nowhere, box(), everywhere]).values, values)
    assert values.reshape(3, -1).mean(axis=1).tolist() == [0, 255 * 0.25, 255]


def two_colours() -> np.ndarray:
    pixels = box()
    pixels[12:36, 16:32, :3] = (0, 0, 250)
    return pixels


def greys() -> np.ndarray:
    pixels = photograph()
    pixels[..., :3] = pixels[..., :1]
    return pixels


@pytest.mark.parametrize("make", [two_colours, greys])
def test_what_may_be_paint_or_a_image_is_refused(make, tmp_path):
    Image.fromarray(make()).save(tmp_path / "a.png")
    with refused("mask_ambiguous"):
        read_mask(tmp_path / "a.png")
    # The advice.
    white = np.where(make()[..., 3] > 0, 255, 0).astype(np.uint8)
    Image.fromarray(white).save(tmp_path / "b.png")
    assert np.array_equal(read_mask(tmp_path / "b.png").values[0], white)


def test_hdr_keeps_its_transparency(tmp_path):
    path = write_video(tmp_path / "a.mkv", box()[None], pixels="yuva444p10le", colours=PQ)
    with pytest.warns(UserWarning, match="white is put behind it"):
        frame = read_clip(path).frames[0]
    assert (frame[2, 2] == 255).all() and frame[24, 32].min() < 200


def test_transparency_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    """Transparency in a codec that has no reader for it, and with an FFmpeg that lacks the reader."""
    opaque = video(tmp_path / "a.mkv", box(), "libx264", "yuv420p", {"alpha_mode": "1"})
    with pytest.warns(UserWarning, match="transparency that is not read in h264"):
        read_clip(opaque)
    path = video(tmp_path / "a.webm", box(), "libvpx-vp9", "yuva420p")

    def lacks(name: str, mode: str) -> CodecContext:
        raise UnknownCodecError(name)

    monkeypatch.setattr("kinoform.media.video_decoder.CodecContext.create", lacks)
    with refused("media_unsupported"):
        read_clip(path)


def test_a_hole_is_no_matter_in_a_image(tmp_path):
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="white is put behind it"):
        assert (read_image(tmp_path / "a.png").pixels[24, 32] == 255).all()
