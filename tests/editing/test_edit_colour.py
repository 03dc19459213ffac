"""Colours brought to those of the video around."""

import numpy as np
import pytest

from kinoform.editing.colour import SAME, Moments, alike, match, moments

RNG = np.random.default_rng(1)
SOURCE = RNG.normal(120, 15, (500, 3))


@pytest.mark.parametrize(("gain", "shift"), [(1.0, 12.0), (0.9, -7.0), (1.15, 3.0)])
def test_a_known_affine_change_is_undone(gain: float, shift: float) -> None:
    made = gain * SOURCE + shift
    colours = match(moments(SOURCE), moments(made))
    np.testing.assert_allclose(colours(made.astype(np.float32)), SOURCE, atol=1e-3)
    np.testing.assert_allclose(colours.correction, SOURCE.mean(axis=0) - made.mean(axis=0))


def test_what_asks_for_too_much_is_corrected_within_bounds() -> None:
    colours = match(moments(SOURCE), moments(10 * (SOURCE - 120) + 20))
    assert colours.gain == (0.8, 0.8, 0.8)
    assert colours.correction == (32.0, 32.0, 32.0)


def test_a_flat_ground_keeps_its_contrast_and_too_few_pixels_change_nothing() -> None:
    flat = np.full((500, 3), 100.0) + RNG.normal(0, 1, (500, 3))
    assert match(moments(flat), moments(SOURCE)).gain == (1.0, 1.0, 1.0)
    assert match(moments(SOURCE[:15]), moments(SOURCE[:15] + 9)) is SAME
    assert match(Moments(), Moments()) is SAME


def test_moments_of_parts_add_to_those_of_the_whole() -> None:
    parts = moments(SOURCE[:100]) + moments(SOURCE[100:])
    np.testing.assert_allclose(parts.mean, SOURCE.mean(axis=0))
    np.testing.assert_allclose(parts.deviation, SOURCE.std(axis=0))


def test_pixels_that_show_something_else_are_told_apart() -> None:
    source = np.array([[10, 20, 30], [10, 20, 30]], np.uint8)
    made = np.array([[42, 20, 30], [10, 53, 30]], np.float32)
    assert alike(source, made).tolist() == [True, False]


def test_mapped_values_stay_in_range() -> None:
    colours = match(moments(SOURCE), moments(SOURCE - 30))
    assert colours(np.full((2, 2, 3), 250, np.float32)).max() == 255
