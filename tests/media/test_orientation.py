"""Whichever way up a camera was held, and mirrored or not, what comes out stands as players show it."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from PIL import Image

from kinoform.conditions.coerce import to_inputs
from kinoform.conditions.standard_inputs import MASK, STANDARD_INPUTS, VIDEO
from kinoform.media.coerce import mask_of
from kinoform.media.read import read_clip, read_image, read_mask
from kinoform.media.types import Mask
from kinoform.media.video import Video
from tests.support.narrowing import some
from tests.support.refusals import refused

ONE = 65536
SHOWN = {
    "as it is": ((1, 0, 0, 1), lambda f: f),
    "a quarter clockwise": ((0, 1, -1, 0), lambda f: np.rot90(f, -1)),
    "half a turn": ((-1, 0, 0, -1), lambda f: f[::-1, ::-1]),
    "a quarter against the clock": ((0, -1, 1, 0), np.rot90),
    "mirrored across": ((-1, 0, 0, 1), lambda f: f[:, ::-1]),
    "mirrored down": ((1, 0, 0, -1), lambda f: f[::-1]),
    "mirrored along the diagonal": ((0, 1, 1, 0), lambda f: f.swapaxes(0, 1)),
    "mirrored along the other one": ((0, -1, -1, 0), lambda f: f[::-1, ::-1].swapaxes(0, 1)),
}
"""a, b, c and d of a display matrix: the pixel (x, y) is shown at (a x + c y, b x + d y)."""


pytestmark = pytest.mark.usefixtures("here_and_silent")


def corners() -> np.ndarray:
    """No turn and no mirror leaves it as it is."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32], image[:24, :32] = 255, (255, 0, 0)
    return image


def held(path: Path, matrix: tuple[int, ...] | None = None, encoder: str = "libx264") -> Path:
    """A video of two such frames; `matrix` is a, b, c, d in whole numbers."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=10, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if matrix is not None:
            a, b, c, d = matrix
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(corners(), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("way", SHOWN)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_videos_stand_and_are_mirrored_as_their_matrix_says(suffix, way, tmp_path):
    encoder = "libvpx-vp9" if suffix == ".webm" else "libx264"
    matrix, shown = SHOWN[way]
    plain = held(tmp_path / f"plain{suffix}", encoder=encoder)
    path = held(tmp_path / f"a{suffix}", tuple(ONE * each for each in matrix), encoder)
    expected = np.stack([shown(frame) for frame in read_clip(plain).frames])
    assert np.array_equal(read_clip(path).frames, expected)


def test_a_matrix_within_the_stream_of_images_counts_too(tmp_path):
    """Make a display orientation message of H.264."""
    plain, path = held(tmp_path / "plain.mkv"), tmp_path / "a.mkv"
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        filtered = BitStreamFilterContext("h264_metadata=display_orientation=insert:flip=horizontal", stream, copy)
        for packet in source.demux(stream):
            for changed in filtered.filter(packet if packet.size else None):
                changed.stream = copy
                target.mux(changed)
    assert np.array_equal(read_clip(path).frames, read_clip(plain).frames[:, :, ::-1])


def test_a_mask_is_turned_as_videos_are(tmp_path):
    matrix, shown = SHOWN["mirrored along the diagonal"]
    path = held(tmp_path / "a.mp4", tuple(ONE * each for each in matrix))
    with pytest.warns(UserWarning, match="has colours"):
        mask = read_mask(path).values[0]
    assert np.array_equal(mask >= 128, shown(corners()[..., 1] > 128))


def test_a_video_at_a_slant_is_turned_to_the_nearest_quarter_aloud(tmp_path):
    path = held(tmp_path / "a.mp4", (7 * ONE // 10, ONE // 2, -ONE // 2, 7 * ONE // 10))
    with pytest.warns(UserWarning, match="at a slant"):
        assert read_clip(path).size == (48, 64)
    assert read_clip(held(tmp_path / "b.mp4", (ONE, 40, -40, ONE))).size == (48, 64), "a rounding is no slant"


def lying_mask() -> np.ndarray:
    """White where `corners` is red."""
    values = np.zeros((48, 64), np.uint8)
    values[:24, :32] = 255
    return values


QUARTERS = [way for way in SHOWN if SHOWN[way][0][0] == 0]


@pytest.mark.parametrize("way", QUARTERS)
def test_a_mask_that_lies_as_the_video_does_in_its_file_is_turned_with_it(way, tmp_path):
    """Make it as programs do that do not turn what they read."""
    matrix, shown = SHOWN[way]
    path = held(tmp_path / "a.mp4", tuple(ONE * each for each in matrix))
    Image.fromarray(lying_mask()).save(tmp_path / "mask.png")
    video = read_clip(path)
    for value in (tmp_path / "mask.png", lying_mask(), Mask(values=lying_mask()[None])):
        with pytest.warns(UserWarning, match="turned to 48x64"):
            mask = mask_of(value, video=video)
        assert np.array_equal(mask.values[0], shown(lying_mask()))
        red = (video.frames[0, ..., 0] > 128) & (video.frames[0, ..., 1] < 128)
        assert ((mask.values[0] == 255) == red).mean() > 0.98
    standing = mask_of(shown(lying_mask()), video=video)  # nothing is said
    assert np.array_equal(standing.values[0], shown(lying_mask()))
    with pytest.warns(UserWarning, match="turned to 48x64"):
        inputs = to_inputs(STANDARD_INPUTS, {"video": path, "mask": tmp_path / "mask.png"})
    assert some(inputs[MASK]).size == some(inputs[VIDEO]).size


def test_a_mask_of_another_size_stays_as_it_is(tmp_path):
    video = read_clip(held(tmp_path / "a.mp4", (0, ONE, -ONE, 0)))
    assert mask_of(np.full((24, 32), 255, np.uint8), video=video).size == (24, 32)


EXIF = {1: "as it is", 2: "mirrored across", 3: "half a turn", 4: "mirrored down", 5: "mirrored along the diagonal",
        6: "a quarter clockwise", 7: "mirrored along the other one", 8: "a quarter against the clock"}  # fmt: skip


@pytest.mark.parametrize("orientation", EXIF)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "moving.png", "moving.webp", "two.jpg"])
def test_images_and_animations_are_turned_as_their_exif_says(name, orientation, tmp_path):
    def written(path: Path, exif: Image.Exif | None) -> np.ndarray:
        image = Image.fromarray(corners())
        options: dict[str, Any] = {"lossless": True, "quality": 95} | ({} if exif is None else {"exif": exif})
        several = {"save_all": True, "append_images": [Image.fromarray(255 - corners())]} if name[0] in "mt" else {}
        kind = {"format": "MPO"} if name == "two.jpg" else {}
        image.save(path, **options, **several, **kind)
        return read_clip(path).frames

    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, found = written(tmp_path / f"plain_{name}", None), written(tmp_path / name, exif)
    assert len(found) == (2 if name.startswith("moving") else 1)
    assert np.array_equal(found, np.stack([SHOWN[EXIF[orientation]][1](frame) for frame in plain]))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_damaged_exif_data_does_not_cost_the_image(suffix, tmp_path):
    Image.fromarray(corners()).save(tmp_path / f"a{suffix}", exif=b"Exif\0\0garbage")
    if suffix != ".jpg":
        with pytest.warns(UserWarning, match="damaged Exif"):
            assert read_image(tmp_path / f"a{suffix}").size == (48, 64)
    else:  # Pillow looks there no further
        assert read_image(tmp_path / f"a{suffix}").size == (48, 64)


def anamorphic(path: Path, shape: Fraction, encoder: str, matrix: tuple[int, ...] | None = None) -> Path:
    """A disc that is round where pixels are `shape` times as wide as high, in 64 by 48 of them."""
    y, x = np.mgrid[:48, :64] + 0.5
    disc = np.hypot((x - 32) * shape.numerator / shape.denominator, y - 24) < 14
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=10, options={} if encoder == "ffv1" else {"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0" if encoder == "ffv1" else "yuv420p"
        stream.codec_context.sample_aspect_ratio = shape
        stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
        if matrix is not None:
            a, b, c, d = matrix
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        frame = av.VideoFrame.from_ndarray(
            np.where(disc[..., None], 255, 0).astype(np.uint8).repeat(3, 2), format="rgb24"
        )
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if path.suffix in (".mkv", ".webm") and encoder != "libx264":
        path.write_bytes(in_matroska(path.read_bytes(), Fraction(64, 48) * shape))
    return path


def in_matroska(content: bytes, shown: Fraction) -> bytes:
    """Write the proportions of the display, which PyAV does not write, in place of the element of colours."""
    place = content.index(b"\x55\xb0", content.index(b"\x16\x54\xae\x6b"))  # Colour, in Tracks
    length = 3 + content[place + 2] - 0x80
    new = b"\x54\xb0\x81" + bytes([shown.numerator]) + b"\x54\xba\x81" + bytes([shown.denominator])
    new += b"\xec" + bytes([0x80 + length - len(new) - 2]) + bytes(length - len(new) - 2)
    whole = content[:place] + new + content[place + length :]
    return whole.replace(b"\x54\xb2\x81\x04", b"\x54\xb2\x81\x03")  # a display in units that are known


PIXELS = {Fraction(4, 3): (48, 86), Fraction(16, 11): (48, 94), Fraction(8, 9): (54, 64), Fraction(1, 2): (96, 64)}
"""Shapes of pixels, and the size with square ones: 64 x 4/3 is 85.3."""


@pytest.mark.parametrize("shape", PIXELS)
@pytest.mark.parametrize("suffix, encoder", [
    (".mp4", "libx264"), (".mov", "libx264"), (".mkv", "libx264"), (".mkv", "ffv1"), (".webm", "libvpx-vp9"),
])  # fmt: skip
def test_pixels_that_are_not_square_become_so_aloud(suffix, encoder, shape, tmp_path):
    path = anamorphic(tmp_path / f"a{suffix}", shape, encoder)
    with pytest.warns(UserWarning, match=rf"{shape.numerator}:{shape.denominator} wide; it is taken as"):
        clip = read_clip(path)
    assert clip.size == PIXELS[shape]
    disc = clip.frames[0, ..., 1] > 128
    height, width = disc.any(axis=1).sum(), disc.any(axis=0).sum()
    assert abs(width - height) <= 2, "the disc is round"
    # Saved and read again it has the same shape, and nothing is left to say.
    again = read_clip(Video(frames=clip.frames, fps=10.0).save(tmp_path / "b.mp4"))
    assert again.size == clip.size
    with pytest.warns(UserWarning, match="it is taken as"):
        assert read_mask(path).size == clip.size


def test_pixels_become_square_before_the_video_is_turned(tmp_path):
    path = anamorphic(tmp_path / "a.mp4", Fraction(4, 3), "libx264", (0, ONE, -ONE, 0))
    with pytest.warns(UserWarning, match="taken as 86x48"):
        assert read_clip(path).size == (86, 48)


def test_pixels_that_are_nearly_square_are_left_alone(tmp_path):
    assert read_clip(anamorphic(tmp_path / "a.mkv", Fraction(1280, 1281), "libx264")).size == (48, 64)


def test_pixels_of_an_absurd_shape_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kinoform.media.video_decoder.MAX_VIDEO_PIXELS", 64 * 48)
    with refused("media_too_large"):
        read_clip(anamorphic(tmp_path / "a.mp4", Fraction(4, 3), "libx264"))


def test_a_mask_is_stretched_with_a_video_whose_pixels_are_not_square(tmp_path):
    path = anamorphic(tmp_path / "a.mp4", Fraction(4, 3), "libx264", (0, ONE, -ONE, 0))
    with pytest.warns(UserWarning, match="taken as 86x48"):
        video = read_clip(path)
    with pytest.warns(UserWarning, match="turned to 48x86"):
        mask = mask_of(lying_mask(), video=video).values[0]
    assert mask.shape == (86, 48) and (mask[:42, 25:] == 255).all() and not mask[44:].any() and not mask[:, :23].any()
