"""A mask of nearly the right form is fitted and said; one that would have to be guessed is refused with a way."""

import warnings

import numpy as np
import pytest

from kinoform.conditions.coerce import to_inputs
from kinoform.conditions.input_kinds import ReadOptions
from kinoform.conditions.mask_fitting import fitted_mask
from kinoform.conditions.standard_inputs import MASK, STANDARD_INPUTS
from kinoform.media.types import InputVideo, Mask
from tests.support.refusals import refused

VIDEO = InputVideo(frames=np.zeros((6, 24, 33, 3), np.uint8), fps=8.0)


def mask(frames: int, height: int, width: int) -> Mask:
    values = np.zeros((frames, height, width), np.uint8)
    values[:, : height // 2] = 255
    return Mask(values=values)


def test_a_mask_of_the_right_form_stays_as_it_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for frames in (1, 6):
            given = mask(frames, 24, 33)
            assert fitted_mask(given, VIDEO, fit=False) is given


@pytest.mark.parametrize("size", [(12, 16), (12, 17), (48, 66), (48, 67)])
def test_half_and_twice_the_size_are_fitted_aloud(size: tuple[int, int]) -> None:
    with pytest.warns(UserWarning, match="it is stretched to that"):
        fitted = fitted_mask(mask(1, *size), VIDEO, fit=False)
    assert fitted.size == VIDEO.size
    white = fitted.values[0] >= 128
    assert white[:12].all() and not white[12:].any()


@pytest.mark.parametrize(("frames", "said"), [(5, "its last one stays"), (7, "its last one is left out")])
def test_one_frame_too_few_or_too_many_is_fitted_aloud(frames: int, said: str) -> None:
    values = np.arange(frames, dtype=np.uint8)[:, None, None].repeat(24, 1).repeat(33, 2)
    with pytest.warns(UserWarning, match=said):
        fitted = fitted_mask(Mask(values=values), VIDEO, fit=False)
    assert fitted.values[:, 0, 0].tolist() == [*range(min(frames, 6)), *[4] * (6 - min(frames, 6))]


@pytest.mark.parametrize(("form", "code"), [((1, 20, 20), "mask_size_differs"), ((3, 24, 33), "mask_length_differs")])
def test_what_is_refused_is_fitted_where_that_is_asked_for(form: tuple[int, int, int], code: str) -> None:
    with refused(code) as caught:
        fitted_mask(mask(*form), VIDEO, fit=False)
    assert "--fit-mask" in str(caught.value) and "fit_mask=True" in str(caught.value)
    with pytest.warns(UserWarning, match="stretched|spread"):
        fitted = fitted_mask(mask(*form), VIDEO, fit=True)
    assert fitted.size == VIDEO.size and len(fitted.values) in (1, 6)
    white = fitted.values >= 128
    assert white[:, :12].all() and not white[:, 12:].any()


@pytest.mark.parametrize("fit", [False, True])
def test_a_mask_that_lies_on_its_side_is_never_stretched(fit: bool) -> None:
    with refused("mask_size_differs") as caught:
        fitted_mask(mask(1, 33, 24), VIDEO, fit=fit)
    assert "turn it" in str(caught.value)


def read_with(values: np.ndarray, *, fit_mask: bool = False) -> Mask | None:
    given = {"video": VIDEO, "mask": values}
    return to_inputs(STANDARD_INPUTS, given, ReadOptions(fit_mask=fit_mask))[MASK]


def test_inputs_fit_the_mask_of_a_video_alike() -> None:
    with pytest.warns(UserWarning, match="it is stretched to that"):
        found = read_with(mask(1, 12, 17).values)
    assert found is not None and found.size == VIDEO.size
    with pytest.warns(UserWarning, match="its last one stays"):
        found = read_with(mask(5, 24, 33).values)
    assert found is not None and len(found.values) == 6
    with refused("mask_size_differs"):
        read_with(mask(1, 20, 20).values)
    with pytest.warns(UserWarning, match="it is stretched to that"):
        found = read_with(mask(1, 20, 20).values, fit_mask=True)
    assert found is not None and found.size == VIDEO.size


def test_a_mask_read_in_part_is_not_spread() -> None:
    """Another run may read another part of it, and would spread it otherwise."""
    with refused("mask_length_differs") as caught:
        read_with(mask(3, 24, 33).values, fit_mask=True)
    assert "--fit-mask" not in str(caught.value)
