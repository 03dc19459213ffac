"""Fitting of images: the size that a video takes from one, the part of it that is shown, and its pixels."""

import numpy as np
import pytest
import torch

from kinoform.conditions.protocols import Units
from kinoform.conditions.resize import fitted, kept_part, signal, size_of_area
from tests.conditions.in_hand import image

WAN = Units(stride=(4, 8, 8), patch=(1, 2, 2))
AREAS = 480 * 832, 720 * 1280

SIZES = {
    (832, 480): ((832, 464), (1248, 720)),
    (480, 832): ((480, 832), (720, 1248)),
    (1280, 720): ((832, 464), (1280, 720)),
    (720, 1280): ((464, 832), (720, 1280)),
    (1920, 1080): ((832, 464), (1280, 720)),
    (848, 480): ((832, 464), (1264, 720)),
    (1024, 1024): ((624, 624), (960, 960)),
    (700, 700): ((624, 624), (960, 960)),
    (800, 600): ((720, 544), (1104, 816)),
    (600, 800): ((544, 720), (816, 1104)),
    (512, 768): ((512, 768), (768, 1168)),
    (1000, 333): ((1088, 352), (1648, 544)),
    (777, 555): ((736, 528), (1120, 800)),
    (1234, 617): ((880, 432), (1344, 672)),
}
"""Width and height of an image, then of its video in each of AREAS: recorded from the official code."""


@pytest.mark.parametrize(("shown", "videos"), SIZES.items(), ids=str)
def test_official_sizes(shown: tuple[int, int], videos: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """Fragile rounding and all: 832x480 and 480x832 are not each other's transpose."""
    wide, tall = shown
    for area, (width, height) in zip(AREAS, videos, strict=True):
        assert size_of_area((tall, wide), area, WAN) == (height, width)


@pytest.mark.parametrize(
    "units", [WAN, Units(stride=(1, 1, 1), patch=(1, 3, 5)), Units(stride=(2, 4, 2), patch=(1, 1, 2))]
)
def test_a_size_is_whole_tokens_within_the_area(units: Units) -> None:
    draw = np.random.default_rng(0)
    for proportions in draw.integers(1, 3000, (200, 2)).tolist():
        size = size_of_area((proportions[0], proportions[1]), 400_000, units)
        assert all(side % unit == 0 for side, unit in zip(size, units.side, strict=True))
        ideal = [(400_000 * a / b) ** 0.5 for a, b in (proportions, proportions[::-1])]
        assert all(0 <= best - side < unit + 1e-6 for best, side, unit in zip(ideal, size, units.side, strict=True))


def test_the_kept_part_is_the_largest_in_the_middle() -> None:
    draw = np.random.default_rng(1)
    for height, width, tall, wide in draw.integers(1, 500, (300, 4)).tolist():
        parts = kept_part((height, width), (tall, wide))
        sides = [part.stop - part.start for part in parts]
        assert height in sides[:1] or width in sides[1:], "one side stays whole"
        for part, side in zip(parts, (height, width), strict=True):
            before, after = part.start, side - part.stop
            assert 0 <= after - before <= 1 and part.stop > part.start
        exact = min(height, width * tall / wide), min(width, height * wide / tall)
        assert all(abs(side - best) <= 0.5 or side == 1 for side, best in zip(sides, exact, strict=True))


@pytest.mark.parametrize("proportions", [(30, 40), (3, 4), (300, 400)])
def test_right_proportions_are_kept_whole(proportions: tuple[int, int]) -> None:
    assert kept_part((30, 40), proportions) == (slice(0, 30), slice(0, 40))


def test_pixels_run_from_minus_one_to_one() -> None:
    """Whatever the memory of the array is like; the array itself stays as it was."""
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    frames.setflags(write=False)
    values = signal(frames)
    assert values.dtype == torch.float32 and values.shape == (1, 3, 16, 16)
    exact = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    assert (values[0, 1].flatten() - exact).abs().max() < 1e-7
    assert values.min() == -1 and values.max() == 1
    assert torch.equal(signal(frames[:, ::-1, ::-1]), values.flip(2, 3))


def test_a_image_of_the_videos_size_is_not_touched() -> None:
    shown = image(1, 6, 10)
    found = fitted(shown.pixels[None], (6, 10), proportions=(6, 10))
    assert torch.equal(found, signal(shown.pixels[None]))


@pytest.mark.parametrize(
    ("size", "cropped"), [((8, 16), (6, 12)), ((5, 20), (3, 12)), ((6, 3), (9, 4)), ((9, 12), (9, 12))]
)
def test_pixels_are_the_bicubic_ones_of_the_kept_part(size: tuple[int, int], cropped: tuple[int, int]) -> None:
    shown = image(2, 9, 12)
    top, left = (9 - cropped[0]) // 2, (12 - cropped[1]) // 2
    part = shown.pixels[top : top + cropped[0], left : left + cropped[1]].astype(np.float64) / 127.5 - 1
    rows, columns = bicubic(cropped[0], size[0]), bicubic(cropped[1], size[1])
    expected = np.einsum("yr,rcd,xc->dyx", rows, part, columns)
    found = fitted(shown.pixels[None], size, proportions=size)[0]
    assert np.abs(found.double().numpy() - expected).max() < 1e-5


def bicubic(before: int, after: int) -> np.ndarray:
    """The matrix of Keys' cubic convolution with a = -0.75; pixel centres stay, the edge pixel goes on outside."""
    a, matrix = -0.75, np.zeros((after, before))
    for row in range(after):
        centre = (row + 0.5) * before / after - 0.5
        for place in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            t = abs(centre - place)
            near = (a + 2) * t**3 - (a + 3) * t**2 + 1
            far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
            matrix[row, min(max(place, 0), before - 1)] += near if t <= 1 else far
    return matrix
