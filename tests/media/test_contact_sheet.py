"""A contact sheet shows the frames it says it shows, whatever the size and the prompt."""

import numpy as np
import pytest
from PIL import Image

from kinoform.media.contact_sheet import BACKGROUND, contact_sheet, save_contact_sheet
from kinoform.media.video import Video
from tests.support.narrowing import of_type
from tests.support.refusals import refused


def plain_video(count: int, height: int, width: int, **params: object) -> Video:
    """Each frame has one colour of its own."""
    colours = np.stack([np.arange(count) * 2 + 50, 250 - np.arange(count), np.full(count, 200)], -1)
    frames = np.broadcast_to(colours[:, None, None].astype(np.uint8), (count, height, width, 3)).copy()
    return Video(frames=frames, fps=16.0, params=params)


def areas(sheet: Image.Image) -> dict[tuple[int, int, int], int]:
    counted = sheet.getcolors(maxcolors=sheet.width * sheet.height) or []
    return {of_type(tuple, colour): count for count, colour in counted}


def shown(video: Video, sheet: Image.Image, cell: int) -> list[int]:
    """The frames whose colour covers a whole cell."""
    found = areas(sheet)
    return [place for place, frame in enumerate(video.frames) if found.get(tuple(frame[0, 0].tolist()), 0) >= cell]


def test_all_frames_of_a_short_video_appear_enlarged():
    video = plain_video(17, 64, 64)
    assert shown(video, contact_sheet(video, upscale=3), 192 * 192) == list(range(17))


def test_a_long_video_is_thinned_and_reduced():
    video = plain_video(81, 240, 416)
    sheet = contact_sheet(video)
    assert shown(video, sheet, 256 * 148) == list(range(0, 81, 4))
    assert sheet.width <= 1500 and sheet.height <= 1500


def test_every_and_columns_are_obeyed():
    video = plain_video(17, 64, 64)
    sheet = contact_sheet(video, every=8, columns=2, upscale=1)
    assert shown(video, sheet, 64 * 64) == [0, 8, 16]
    assert 2 * 64 < sheet.width < 3 * 64
    wide = contact_sheet(video, columns=100, upscale=1)
    assert wide.width > 17 * 64


def test_frames_stand_in_reading_order():
    video = plain_video(6, 20, 30)
    pixels = np.asarray(contact_sheet(video, columns=3, upscale=2))
    places = [np.argwhere((pixels == frame[0, 0]).all(-1)).min(0).tolist() for frame in video.frames]
    assert places == sorted(places)
    rows, columns = {row for row, _ in places}, {column for _, column in places}
    assert (len(rows), len(columns)) == (2, 3)


def test_small_frames_are_enlarged_pixel_by_pixel(noisy_video):
    pixels = np.asarray(contact_sheet(noisy_video, columns=1, upscale=4))
    enlarged = noisy_video.frames[0].repeat(4, axis=0).repeat(4, axis=1)
    assert np.array_equal(pixels[8 : 8 + 128, 8 : 8 + 192], enlarged)


def test_the_prompt_is_written_below_and_stays_inside():
    video = plain_video(4, 64, 64)
    bare = contact_sheet(video)
    for prompt in ["a cat", "word " * 300, "x" * 3000, "红色的球 é 😀", "lone \ud800, nul \x00"]:
        captioned = contact_sheet(plain_video(4, 64, 64, prompt=prompt, seed=7))
        assert captioned.width == bare.width
        assert bare.height < captioned.height <= bare.height + 4 * 20
        border = np.asarray(captioned)[:, -4:]
        assert (border == BACKGROUND).all()


@pytest.mark.parametrize("height, width", [(1, 1), (1, 2000), (2000, 1), (300, 300)])
def test_any_size_can_be_shown(height, width):
    sheet = contact_sheet(plain_video(3, height, width, prompt="a long thin video"))
    assert sheet.width > 0 and sheet.height < 4000


def test_it_is_saved_as_png_and_never_over_another(tmp_path):
    video = plain_video(4, 64, 64)
    path = save_contact_sheet(video, tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(contact_sheet(video)))
    with refused("file_exists"):
        save_contact_sheet(video, path)
    save_contact_sheet(video, path, force=True)
    with refused("wrong_suffix", "a.png"):
        save_contact_sheet(video, tmp_path / "a.jpg")


@pytest.mark.parametrize("option", ["columns", "every", "upscale"])
def test_options_below_one_are_refused(option):
    with refused("value_out_of_range", option):
        contact_sheet(plain_video(2, 8, 8), **{option: 0})
