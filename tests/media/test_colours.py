"""Images and videos made for other displays come out as sRGB and BT.709 show them, and it is said."""

import io
import struct
import warnings
import zlib
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph
from av.video.reformatter import ColorRange
from PIL import Image, ImageCms

from kinoform.media.coerce import image_of
from kinoform.media.light import ADOBE, BT709, PRIMARIES, Primaries, in_srgb, to_709
from kinoform.media.read import read_clip, read_image, read_mask
from tests.support.strange_media import write_video

P3, COLOUR, IN_SRGB = 12, (200, 60, 40), (219, 37, 13)
"""A colour of a display with these primaries and an exponent of 2.2, and the same in sRGB, by LittleCMS."""


pytestmark = pytest.mark.usefixtures("here_and_silent")


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A colour profile of version 2 (ICC.1:2001): a head of 128 bytes, a table, and what it points to."""
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"Mine\0" + bytes(78), b"wtpt": xyz(white), **tags}
    place, table, content = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        data = data.ljust(-(-len(data) // 4) * 4, b"\0")
        table += name + struct.pack(">2I", place + len(content), len(data))
        content += data
    head = struct.pack(">I4xI4s4s4s12x4s", 128 + len(table + content), 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    return (head.ljust(68, b"\0") + white).ljust(128, b"\0") + table + content


def xyz(numbers: bytes) -> bytes:
    return b"XYZ " + bytes(4) + numbers


def exponent(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * value))


def display_p3(gamma: float = 2.2) -> bytes:
    columns = {b"rXYZ": (0.51512, 0.2412, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189),
               b"bXYZ": (0.1571, 0.06657, 0.78407)}  # fmt: skip
    fixed = {name: xyz(struct.pack(">3i", *(round(65536 * v) for v in column))) for name, column in columns.items()}
    return profile(b"RGB ", fixed | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), exponent(gamma)))


def near(found: np.ndarray, colour: tuple[int, ...], by: int = 2) -> bool:
    return bool((np.abs(found.astype(int) - colour) <= by).all())


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "moving.png", "moving.webp", "two.jpg"])
def test_a_profile_is_applied_and_said(name, tmp_path):
    image = Image.new("RGB", (16, 16), COLOUR)
    options = {"save_all": True, "append_images": [Image.new("RGB", (16, 16), COLOUR[::-1])]} if name[0] in "mt" else {}
    kind = {"format": "MPO"} if name == "two.jpg" else {}
    image.save(tmp_path / name, icc_profile=display_p3(), lossless=True, quality=100, **options, **kind)
    with pytest.warns(UserWarning, match="has the colours of Mine; they become sRGB"):
        frames = read_clip(tmp_path / name).frames
    assert near(frames[0], IN_SRGB, 3)
    if name.startswith("moving"):
        assert not near(frames[1], COLOUR[::-1], 3)


def test_a_profile_counts_in_folders_masks_images_of_pillow_and_beside_transparency(tmp_path):
    pixels = np.full((16, 16, 4), (*COLOUR, 255), np.uint8)
    pixels[8:, :, 3] = 0
    (tmp_path / "frames").mkdir()
    for path in (tmp_path / "a.png", tmp_path / "frames" / "1.png"):
        Image.fromarray(pixels).save(path, icc_profile=display_p3())
    warnings.filterwarnings("ignore", message=".*white is put behind it")
    for read in (read_image, lambda path: image_of(Image.open(path))):
        with pytest.warns(UserWarning, match="they become sRGB"):
            image = read(tmp_path / "a.png").pixels
        assert near(image[:8], IN_SRGB) and (image[8:] == 255).all()
    with pytest.warns(UserWarning, match="they become sRGB"):
        assert np.array_equal(read_clip(tmp_path / "frames").frames[0], image)
    grey = Image.fromarray(np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16)).convert("RGB")
    grey.save(tmp_path / "mask.png", icc_profile=display_p3(2.6))
    with pytest.warns(UserWarning, match="they become sRGB"):
        mask = read_mask(tmp_path / "mask.png").values[0]
    assert mask[0, 0] == 0 and mask[-1, -1] == 255


def test_a_profile_of_srgb_changes_no_pixel(noisy_video, tmp_path):
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noisy_video.frames[0]).save(tmp_path / "a.png", icc_profile=content)
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, noisy_video.frames[0])


@pytest.mark.parametrize("deep", [False, True])
def test_grey_profiles_are_applied_to_greys(deep, tmp_path):
    content = profile(b"GRAY", {b"kTRC": exponent(1.0)})
    grey = Image.fromarray(np.full((16, 16), 128 * 257, np.uint16)) if deep else Image.new("L", (16, 16), 128)
    grey.save(tmp_path / "a.png", icc_profile=content)
    warnings.filterwarnings("ignore", message=".*16 bits")
    with pytest.warns(UserWarning, match="they become sRGB"):
        assert near(read_image(tmp_path / "a.png").pixels, (188, 188, 188))


def test_a_profile_of_inks_is_applied_to_cmyk(tmp_path):
    """One that makes every mix of inks the same Lab grey (ICC.1:2001, 6.5.6), and is seen to be used so."""
    table = (
        b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * n for n in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    )
    table += bytes(range(256)) * 4 + bytes([128, 128, 128]) * 16 + bytes(range(256)) * 3
    head = bytearray(profile(b"CMYK", {b"A2B0": table, b"A2B1": table}))
    head[12:16], head[20:24] = b"prtr", b"Lab "
    Image.new("CMYK", (16, 16), (200, 10, 10, 10)).save(tmp_path / "a.jpg", icc_profile=bytes(head))
    with pytest.warns(UserWarning, match="they become sRGB"):
        found = read_image(tmp_path / "a.jpg").pixels.astype(int)
    assert np.ptp(found) <= 4 and 100 < found.mean() < 140


@pytest.mark.parametrize("content, said", [
    (b"garbage", "damaged colour profile"), (display_p3()[:300], "damaged colour profile"),
    (profile(b"CMYK", {}), "for another kind of pixels"), (profile(b"GRAY", {b"kTRC": exponent(1)}), "another kind"),
])  # fmt: skip
def test_profiles_that_cannot_be_applied_are_said(content, said, noisy_video, tmp_path):
    Image.fromarray(noisy_video.frames[0]).save(tmp_path / "a.png", icc_profile=content)
    with pytest.warns(UserWarning, match=said):
        assert np.array_equal(read_image(tmp_path / "a.png").pixels, noisy_video.frames[0])


def with_chunks(path: Path, image: Image.Image, **chunks: bytes) -> Path:
    """A png with these chunks behind its header."""
    written = io.BytesIO()
    image.save(written, "PNG")
    content = written.getvalue()
    added = b"".join(
        struct.pack(">I", len(data)) + name.encode() + data + struct.pack(">I", zlib.crc32(name.encode() + data))
        for name, data in chunks.items()
    )
    path.write_bytes(content[:33] + added + content[33:])
    return path


def chromaticities(wide: Primaries) -> bytes:
    x = [wide.white, wide.red, wide.green, wide.blue]
    return struct.pack(">8I", *(round(100_000 * value) for pair in x for value in pair))


def test_chunks_of_png_that_name_a_display_count(tmp_path):
    image = Image.new("RGB", (16, 16), COLOUR)
    wide = {"cHRM": chromaticities(PRIMARIES[P3])}
    for chunks in ({"cICP": bytes([P3, 13, 0, 1])}, wide, {"gAMA": struct.pack(">I", 45455), **wide}):
        path = with_chunks(tmp_path / "a.png", image, **chunks)
        with pytest.warns(UserWarning, match="they become sRGB"):
            assert near(read_image(path).pixels, (217, 42, 23))  # the curve of sRGB, not an exponent of 2.2
    path = with_chunks(tmp_path / "a.png", Image.new("RGB", (16, 16), (128, 128, 128)), gAMA=struct.pack(">I", 100_000))
    with pytest.warns(UserWarning, match="they become sRGB"):
        assert near(read_image(path).pixels, (188, 188, 188))


def test_chunks_of_png_that_name_srgb_change_nothing(tmp_path):
    image, usual = Image.new("RGB", (16, 16), COLOUR), {"gAMA": struct.pack(">I", 45455)}
    for chunks in (usual, {"cHRM": chromaticities(BT709), **usual}, {"sRGB": b"\0", "cHRM": chromaticities(ADOBE)},
                   {"cICP": bytes([1, 13, 0, 1])}):  # fmt: skip
        assert (read_image(with_chunks(tmp_path / "a.png", image, **chunks)).pixels == COLOUR).all()


def test_hdr_in_a_png_is_converted(tmp_path):
    path = with_chunks(tmp_path / "a.png", Image.new("RGB", (16, 16), (149, 149, 149)), cICP=bytes([9, 16, 0, 1]))
    with pytest.warns(UserWarning, match="is HDR"):
        assert 200 < read_image(path).pixels.min() < 250  # 203 cd/m2, white of paper


@pytest.mark.parametrize("numbers", [(0, 0), (2**31, 0), (31270, 0)])
def test_impossible_displays_are_said(numbers, tmp_path):
    chunk = struct.pack(">8I", *numbers * 4)
    path = with_chunks(tmp_path / "a.png", Image.new("RGB", (16, 16), COLOUR), cHRM=chunk, gAMA=bytes(4))
    with pytest.warns(UserWarning, match="damaged colour profile"):
        assert (read_image(path).pixels == COLOUR).all()


def test_adobe_rgb_of_a_camera_is_told_by_exif(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    Image.new("RGB", (16, 16), COLOUR).save(tmp_path / "a.jpg", exif=exif, quality=100)
    with pytest.warns(UserWarning, match="has the colours of Adobe RGB"):
        assert near(read_image(tmp_path / "a.jpg").pixels, (231, 61, 36), 4)


def test_greys_stay_grey_in_all_primaries():
    grey = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    for wide in (*PRIMARIES.values(), BT709):
        assert np.abs(to_709(wide).sum(axis=1) - 1).max() < 1e-5
        assert np.abs(in_srgb(grey, wide, None).astype(int) - grey).max() <= 1


@pytest.mark.parametrize("number", PRIMARIES)
def test_videos_in_other_primaries_become_bt709(number, tmp_path):
    """A colour of BT.709, written in those primaries by the inverse of the matrix."""
    colour = np.array([180, 120, 90])
    wide = (np.linalg.inv(to_709(PRIMARIES[number]).astype(float)) @ (colour / 255) ** 2.4) ** (1 / 2.4)
    frames = np.broadcast_to(np.rint(65535 * wide).astype(np.uint16), (1, 16, 24, 3)).copy()
    tags = {"color_primaries": number, "color_trc": 1, "colorspace": 1}
    with pytest.warns(UserWarning, match="they become BT.709"):
        assert near(read_clip(write_video(tmp_path / "a.mkv", frames, colours=tags)).frames, tuple(colour), 3)


@pytest.mark.parametrize("encoder", ["libx264", "ffv1"])
@pytest.mark.parametrize("range", [None, ColorRange.MPEG, ColorRange.JPEG])
def test_grey_videos_have_the_range_that_players_of_ffmpeg_give_them(encoder, range, tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=10, options={"crf": "0"} if encoder == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        if range is not None:
            stream.codec_context.color_range = range
        frame = av.VideoFrame.from_ndarray(np.full((48, 64), 25, np.uint8), format="gray")
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        (frame,) = container.decode(video=0)
    graph = Graph()
    chain = [
        graph.add_buffer(width=64, height=48, format=frame.format.name, time_base=Fraction(1, 10)),
        graph.add("scale"), graph.add("format", "rgb24"), graph.add("buffersink"),
    ]  # fmt: skip
    for one, other in pairwise(chain):
        one.link_to(other)
    graph.configure()
    graph.push(frame)
    shown = graph.pull().to_ndarray()
    assert np.array_equal(read_clip(path).frames[0], shown)
    assert shown[0, 0, 0] == (10 if encoder == "libx264" and range != ColorRange.JPEG else 25)
