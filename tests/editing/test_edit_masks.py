"""A mask grown and feathered, against distances found the slow way."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from kinoform.editing.edit import edit
from kinoform.editing.masks import alpha_of, distance, ring, soft
from kinoform.editing.settings import EditSettings
from kinoform.media.types import InputVideo, Mask, Origin
from tests.editing.pretend import far, painted, pretended, spots, video
from tests.support.refusals import refused

SIZES = [(37, 53), (100, 64), (1, 9), (8, 1)]


def white_frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return spots(1, height, width, seed=seed)[0]


def clip(frames: int, height: int, width: int) -> InputVideo:
    return InputVideo(
        frames=np.zeros((frames, height, width, 3), np.uint8), origin=Origin(file="video.mp4", sha256="0" * 64)
    )


def mask(values: np.ndarray) -> Mask:
    return Mask(values=values.astype(np.uint8), origin=Origin(file="hole.png", sha256="0" * 64))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reach", [1, 5, 200])
def test_distances_are_exact_as_far_as_asked_and_no_less_beyond(size: tuple[int, int], reach: int) -> None:
    white = white_frame(*size)
    found, true = distance(white, reach=reach), far(white)
    near = true <= reach
    np.testing.assert_allclose(found[near], true[near], rtol=1e-6)
    assert (found[~near] > reach).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("grow", "feather"), [(0, 0.0), (3, 0.0), (0, 4.0), (2, 2.5)])
def test_alpha_is_one_to_the_grown_border_and_zero_beyond_the_feather(
    size: tuple[int, int], grow: int, feather: float
) -> None:
    white = white_frame(*size)
    alpha, true = soft(white, grow=grow, feather=feather), far(white)
    assert (alpha[true <= grow] == 1).all()
    assert (alpha[true > grow + feather] == 0).all()
    between = (true > grow) & (true <= grow + feather)
    assert ((alpha[between] > 0) & (alpha[between] < 1)).all()


def test_alpha_falls_with_distance_and_rises_with_growth_and_feather() -> None:
    white = white_frame(37, 53)
    order = np.argsort(far(white), axis=None)
    assert (np.diff(soft(white, grow=2, feather=6.0).ravel()[order]) <= 0).all()
    for less, more in [((2, 3.0), (3, 3.0)), ((2, 3.0), (2, 5.0))]:
        one, other = (soft(white, grow=grow, feather=feather) for grow, feather in (less, more))
        assert (one <= other).all() and (one < other).any()


def test_the_ring_is_what_stays_near_what_changes() -> None:
    alpha = np.zeros((2, 9, 9), np.float32)
    alpha[0, 4, 4] = 0.5
    found = ring(alpha, 2)
    square = np.zeros((9, 9), bool)
    square[2:7, 2:7] = True
    square[4, 4] = False
    assert np.array_equal(found[0], square)
    assert not found[1].any()


def test_one_frame_stands_for_all_and_no_mask_for_everything() -> None:
    white = white_frame(12, 10)
    alpha = alpha_of(mask(255 * white[None]), clip(6, 12, 10), grow=1, feather=1.0)
    assert alpha.shape == (6, 12, 10) and np.array_equal(alpha[0], alpha[5])
    assert (alpha_of(None, clip(6, 12, 10), grow=1, feather=1.0) == 1).all()


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ((6, 12, 11), "mask_size_differs"),
        ((6, 13, 10), "mask_size_differs"),
        ((5, 12, 10), "mask_length_differs"),
    ],
)
def test_a_mask_of_another_size_or_length_is_refused_naming_both(shape: tuple[int, ...], code: str) -> None:
    with refused(code, "hole.png", "video.mp4"):
        alpha_of(mask(np.full(shape, 255)), clip(6, 12, 10), grow=0, feather=0.0)


def test_greys_are_white_from_128_on_and_told_of_when_they_are_many() -> None:
    values = np.zeros((1, 4, 4))
    values[0, 0] = [127, 128, 129, 0]
    with pytest.warns(UserWarning, match=r"hole\.png is grey in 19%"):
        alpha = alpha_of(mask(values), clip(6, 4, 4), grow=0, feather=0.0)
    assert alpha[0, 0].tolist() == [0, 1, 1, 0]


def test_a_mask_that_leaves_nothing_is_told_of_also_when_it_grew_to_it() -> None:
    full, nearly = np.full((1, 12, 10), 255), np.full((1, 12, 10), 255)
    nearly[0, 6, 5] = 0
    with pytest.warns(UserWarning, match=r"hole\.png is white everywhere"):
        alpha_of(mask(full), clip(6, 12, 10), grow=0, feather=0.0)
    with pytest.warns(UserWarning, match=r"hole\.png, grown by 1 .* is white everywhere"):
        alpha_of(mask(nearly), clip(6, 12, 10), grow=1, feather=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alpha_of(mask(nearly), clip(6, 12, 10), grow=0, feather=0.0)


def test_an_edit_fits_its_mask(folder: Path) -> None:
    source = video(9, 16, 16)
    with refused("mask_size_differs"):
        edit(pretended(folder, painted(1, 2, 3)), source, "a cat", mask=np.ones((9, 10), bool), seed=1)
    settings = EditSettings(fit_mask=True)
    with pytest.warns(UserWarning, match="stretched"):
        edited = edit(
            pretended(folder, painted(1, 2, 3)), source, "a cat", mask=np.ones((9, 10), bool), seed=1, settings=settings
        )
    assert (edited.video.frames == (1, 2, 3)).all()
