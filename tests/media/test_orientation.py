"""Whichever way up a camera was held, and mirrored or not, what comes out stands as players show it."""

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from PIL import Image

from kinoform.media.reading import read_clip, read_mask, read_picture
from strange_media import decoded_here

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


@pytest.fixture(autouse=True)
def _here_and_silent(monkeypatch):
    monkeypatch.setattr("kinoform.media.reading.decoded", decoded_here)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def corners() -> np.ndarray:
    """No turn and no mirror leaves it as it is."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32], picture[:24, :32] = 255, (255, 0, 0)
    return picture


def held(path: Path, matrix: tuple[int, ...] | None = None, encoder: str = "libx264") -> Path:
    """A film of two such frames; `matrix` is a, b, c, d in whole numbers."""
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
def test_films_stand_and_are_mirrored_as_their_matrix_says(suffix, way, tmp_path):
    encoder = "libvpx-vp9" if suffix == ".webm" else "libx264"
    matrix, shown = SHOWN[way]
    plain = held(tmp_path / f"plain{suffix}", encoder=encoder)
    path = held(tmp_path / f"a{suffix}", tuple(ONE * each for each in matrix), encoder)
    expected = np.stack([shown(frame) for frame in read_clip(plain).frames])
    assert np.array_equal(read_clip(path).frames, expected)


def test_a_matrix_within_the_stream_of_pictures_counts_too(tmp_path):
    """As a display orientation message of H.264."""
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


def test_a_mask_is_turned_as_films_are(tmp_path):
    matrix, shown = SHOWN["mirrored along the diagonal"]
    path = held(tmp_path / "a.mp4", tuple(ONE * each for each in matrix))
    with pytest.warns(UserWarning, match="has colours"):
        mask = read_mask(path).values[0]
    assert np.array_equal(mask >= 128, shown(corners()[..., 1] > 128))


def test_a_film_at_a_slant_is_turned_to_the_nearest_quarter_aloud(tmp_path):
    path = held(tmp_path / "a.mp4", (7 * ONE // 10, ONE // 2, -ONE // 2, 7 * ONE // 10))
    with pytest.warns(UserWarning, match="at a slant"):
        assert read_clip(path).size == (48, 64)
    assert read_clip(held(tmp_path / "b.mp4", (ONE, 40, -40, ONE))).size == (48, 64), "a rounding is no slant"


EXIF = {1: "as it is", 2: "mirrored across", 3: "half a turn", 4: "mirrored down", 5: "mirrored along the diagonal",
        6: "a quarter clockwise", 7: "mirrored along the other one", 8: "a quarter against the clock"}  # fmt: skip


@pytest.mark.parametrize("orientation", EXIF)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "moving.png", "moving.webp", "two.jpg"])
def test_pictures_and_animations_are_turned_as_their_exif_says(name, orientation, tmp_path):
    def written(path: Path, exif: Image.Exif | None) -> np.ndarray:
        image, options = Image.fromarray(corners()), {"lossless": True, "quality": 95}
        several = {"save_all": True, "append_images": [Image.fromarray(255 - corners())]} if name[0] in "mt" else {}
        kind = {"format": "MPO"} if name == "two.jpg" else {}
        image.save(path, **options, **several, **kind, **({} if exif is None else {"exif": exif}))
        return read_clip(path).frames

    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, found = written(tmp_path / f"plain_{name}", None), written(tmp_path / name, exif)
    assert len(found) == (2 if name.startswith("moving") else 1)
    assert np.array_equal(found, np.stack([SHOWN[EXIF[orientation]][1](frame) for frame in plain]))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_damaged_exif_data_does_not_cost_the_picture(suffix, tmp_path):
    Image.fromarray(corners()).save(tmp_path / f"a{suffix}", exif=b"Exif\0\0garbage")
    if suffix != ".jpg":
        with pytest.warns(UserWarning, match="damaged Exif"):
            assert read_picture(tmp_path / f"a{suffix}").size == (48, 64)
    else:  # Pillow looks there no further
        assert read_picture(tmp_path / f"a{suffix}").size == (48, 64)
