"""Windows of edits: the part of a video that the model sees comes back to the same place."""

from dataclasses import replace

import numpy as np
import pytest

from kinoform.conditions.protocols import Units
from kinoform.editing.window import Window, resized, whole, window_around
from tests.editing.pretend import video

WAN = Units(stride=(4, 8, 8), patch=(1, 2, 2))
ASKED = [(64, 64), (480, 832), (48, 80)]
VIDEOS = [(37, 53), (100, 64), (64, 64), (1080, 1920), (1920, 1080), (33, 400)]


def legal(window: Window, asked: tuple[int, int]) -> bool:
    height, width = window.made
    tokens = height // 16 * (width // 16)
    return not height % 16 and not width % 16 and 0 < tokens <= asked[0] // 16 * (asked[1] // 16)


def even(window: Window) -> bool:
    """The same factor along both sides, as whole numbers."""
    return window.height * window.made[1] == window.width * window.made[0]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("size", VIDEOS)
def test_a_whole_video_lies_in_a_window_of_legal_size_that_stretches_nothing(
    asked: tuple[int, int], size: tuple[int, int]
) -> None:
    window = whole(size, asked=asked, units=WAN)
    rows, columns = window.inside(size)
    assert (rows, columns) == (slice(0, size[0]), slice(0, size[1]))
    assert legal(window, asked) and even(window)


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("size", VIDEOS)
@pytest.mark.parametrize("seed", range(4))
def test_a_window_contains_all_that_changes(asked: tuple[int, int], size: tuple[int, int], seed: int) -> None:
    generator, changes = np.random.default_rng(seed), np.zeros(size, bool)
    top, left = (int(generator.integers(0, side)) for side in size)
    changes[top : top + size[0] // 8 + 1, left : left + size[1] // 8 + 1] = True
    window = window_around(changes, margin=0.5, asked=asked, units=WAN)
    rows, columns = window.inside(size)
    assert changes[rows, columns].sum() == changes.sum()
    assert legal(window, asked) and even(window)


def test_a_small_change_in_a_large_video_is_cut_out_at_its_own_resolution() -> None:
    changes = np.zeros((1080, 1920), bool)
    changes[5:40, 1880:1919] = True
    window = window_around(changes, margin=1.0, asked=(480, 832), units=WAN)
    assert window.scale == 1.0
    assert window.inside(changes.shape) == (slice(0, 480), slice(1088, 1920))


def test_a_wider_margin_shows_more_until_the_whole_video_is_seen() -> None:
    changes = np.zeros((1080, 1920), bool)
    changes[500:600, 900:1000] = True
    heights = [window_around(changes, margin=each, asked=(64, 64), units=WAN).height for each in (0.0, 1.0, 2.0, 9.0)]
    assert heights == sorted(heights) and heights[0] == 100
    assert window_around(changes, margin=9.0, asked=(64, 64), units=WAN) == whole(
        (1080, 1920), asked=(64, 64), units=WAN
    )


def test_a_video_of_other_proportions_is_made_in_those_that_give_most() -> None:
    assert whole((1920, 1080), asked=(480, 832), units=WAN).made == (832, 480)
    assert whole((64, 66), asked=(64, 64), units=WAN).made == (64, 64)


def test_what_is_seen_and_given_back_is_the_video_where_sizes_agree() -> None:
    frame = video(1, 70, 90)[0]
    window = Window(top=-3, left=40, height=64, width=64, made=(64, 64))
    seen = window.seen(frame)
    rows, columns = window.inside((70, 90))
    assert np.array_equal(seen[3:, :50], frame[rows, columns])
    assert np.array_equal(seen[:3], np.broadcast_to(seen[3], (3, 64, 3)))
    assert np.array_equal(window.given_back(seen, (70, 90)), frame[rows, columns])


def test_smooth_videos_come_back_from_smaller_and_larger_windows() -> None:
    rows, columns = np.indices((100, 64))
    frame = np.stack([rows, columns * 2, 120 + 0 * rows], axis=-1).astype(np.uint8)
    for made in ((64, 64), (160, 160)):
        window = replace(whole((100, 64), asked=(64, 64), units=WAN), made=made)
        back = window.given_back(window.seen(frame), (100, 64))
        assert np.abs(back - frame)[4:-4, 4:-4].max() < 2


def test_a_pixel_that_changes_is_never_lost_in_a_smaller_window() -> None:
    for row, column in [(0, 0), (17, 40), (99, 63)]:
        changes = np.zeros((100, 64), bool)
        changes[row, column] = True
        window = whole((100, 64), asked=(16, 16), units=WAN)
        touched = window.touched(changes)
        place = (row - window.top) / window.scale, (column - window.left) / window.scale
        assert touched[int(place[0]), int(place[1])]
        assert touched.mean() < 0.2


def test_equal_sizes_are_not_resampled() -> None:
    pixels = video(1, 7, 5)[0].astype(np.float32)
    assert resized(pixels, (7, 5)) is pixels
