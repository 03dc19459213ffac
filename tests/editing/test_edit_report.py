"""Figures of an edit against cases that are known by hand."""

import json
import math

import numpy as np
import pytest

from kinoform.editing.boundary import boundary_differences, ciede2000, delta_e, lab, pair_differences
from kinoform.editing.masks import composite, crossfaded
from kinoform.editing.report import EditReport, decibels, mean_colour, mean_of, outside_equal

PUBLISHED = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]
"""Pairs of Sharma, Wu & Dalal 2005, table 1."""

GREY, BRIGHTER = 100, 130


def square(feather: int = 0) -> np.ndarray:
    """1 on 4x4 of 12x12 pixels, with a rim of a half."""
    alpha = np.zeros((12, 12), np.float32)
    alpha[4 - feather : 8 + feather, 4 - feather : 8 + feather] = 0.5
    alpha[4:8, 4:8] = 1
    return alpha


def plain(value: int) -> np.ndarray:
    return np.full((12, 12, 3), value, np.uint8)


def test_ciede2000_is_that_of_the_published_pairs() -> None:
    one, other, differences = (np.array(column, float) for column in zip(*PUBLISHED, strict=True))
    np.testing.assert_allclose(ciede2000(one, other), differences, atol=1e-4)
    np.testing.assert_allclose(ciede2000(other, one), differences, atol=1e-4)


def test_lab_of_colours_that_everyone_knows() -> None:
    found = lab(np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0]], np.uint8))
    np.testing.assert_allclose(found, [[0, 0, 0], [100, 0, 0], [53.24, 80.09, 67.20]], atol=0.01)


@pytest.mark.parametrize("feather", [0, 2])
def test_a_plain_patch_shows_by_its_own_difference_on_all_four_sides(feather: int) -> None:
    result = plain(GREY)
    result[4:8, 4:8] = BRIGHTER
    found = pair_differences(plain(GREY), result, square(feather), feather=float(feather))
    (expected,) = delta_e(plain(GREY)[0, :1], plain(BRIGHTER)[0, :1])
    np.testing.assert_allclose(found, [expected] * 16)


def test_a_border_that_the_source_had_does_not_count() -> None:
    source = plain(GREY)
    source[4:8, 4:8] = BRIGHTER
    assert (pair_differences(source, source, square(), feather=0.0) == 0).all()
    assert (pair_differences(source, plain(GREY), square(), feather=0.0) == 0).all()


def test_without_a_border_there_is_no_difference() -> None:
    for alpha in (np.zeros((12, 12), np.float32), np.ones((12, 12), np.float32)):
        assert pair_differences(plain(GREY), plain(GREY), alpha, feather=3.0).size == 0
    stack = np.stack([plain(GREY)] * 2)
    assert boundary_differences(stack, stack, np.stack([square(), 0 * square()]), feather=0.0) == [0.0, None]


def test_equality_outside_is_told_to_the_last_bit() -> None:
    source = np.stack([plain(GREY)] * 3)
    alpha = np.broadcast_to(square(2), (3, 12, 12))
    inside, outside = source.copy(), source.copy()
    inside[1, 3, 3] = 7
    outside[2, 1, 9, 1] += 1
    assert outside_equal(source, inside, alpha) == (True, 3 * (144 - 64))
    assert outside_equal(source, outside, alpha) == (False, 3 * (144 - 64))


def test_a_composite_copies_blends_and_takes() -> None:
    result = composite(plain(GREY), np.full((12, 12, 3), 131.0, np.float32), square(1))
    assert (result[4:8, 4:8] == 131).all()
    assert (result[3, 3:9] == 116).all()  # 115.5, and halves go to the even number
    assert (result[square(1) == 0] == GREY).all()


def test_a_crossfade_goes_from_one_to_the_other_and_keeps_what_is_equal() -> None:
    one, other = plain(GREY), plain(GREY)
    other[0] = 200
    assert [int(crossfaded(one, other, weight)[0, 0, 0]) for weight in (0.0, 0.25, 1.0)] == [100, 125, 200]
    assert np.array_equal(crossfaded(one, other, 0.37)[1:], one[1:])


def test_decibels_and_means() -> None:
    assert decibels(255.0**2, 1) == 0
    assert decibels(0.65025 * 10, 10) == pytest.approx(50)
    assert decibels(0.0, 9) == math.inf
    assert decibels(0.0, 0) is None
    assert mean_of([None, 1.0, 3.0]) == 2
    assert mean_of([None]) is None
    assert mean_colour([(1.0, 2.0, 3.0), (3.0, 2.0, 1.0)]) == (2, 2, 2) and mean_colour([]) == (0, 0, 0)


def report(**changes: object) -> EditReport:
    about = {
        "outside_equal": True, "outside_pixels": 75, "raw_psnr_outside_db": 31.416, "boundary_delta_e": 1.234,
        "boundary_delta_e_worst": 5.678, "colour_shift": (1.0, -2.0, 0.0), "changed_share": 0.25, "segments": (),
    }  # fmt: skip
    return EditReport(**{**about, **changes})  # type: ignore[arg-type]


def test_a_report_is_json_whatever_its_figures() -> None:
    assert json.loads(json.dumps(report().as_json(), allow_nan=False))["raw_psnr_outside_db"] == 31.42
    for figure in (None, math.inf):
        told = report(raw_psnr_outside_db=figure, boundary_delta_e=None, boundary_delta_e_worst=None).as_json()
        assert json.loads(json.dumps(told, allow_nan=False))["raw_psnr_outside_db"] is None


def test_a_report_says_what_was_kept_and_what_was_not() -> None:
    assert report().sentences()[0] == "outside the mask (75.0% of the video) every pixel equals the source"
    assert "DIFFER" in report(outside_equal=False).sentences()[0]
    assert "nothing of it is promised" in report(outside_pixels=0, changed_share=1.0).sentences()[0]
    for decibel, judged in ((35.0, "good"), (24.0, "fair"), (8.9, "bad")):
        said = report(raw_psnr_outside_db=decibel).sentences()
        assert any(f"{decibel:.1f} dB, which is {judged}" in each for each in said)
        assert any("look at what it made" in each for each in said) == (judged == "bad")
    assert not any("moved" in said for said in report(colour_shift=(0.0, 0.0, 0.0)).sentences())
