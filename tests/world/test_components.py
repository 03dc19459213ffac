import numpy as np
import pytest

from kinoform.world.components import boxed, dilate, erode, label


def flooded(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """The 4-connected regions of one frame, by flood fill."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    regions = []
    while left:
        region, todo = set(), [left.pop()]
        while todo:
            y, x = todo.pop()
            region.add((y, x))
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in left:
                    left.remove(near)
                    todo.append(near)
        regions.append(region)
    return regions


@pytest.mark.parametrize("density", [0.0, 0.3, 0.55, 0.7, 1.0])
def test_regions_are_those_of_a_flood_fill(density: float) -> None:
    mask = np.random.default_rng(0).random((4, 23, 31)) < density
    labels = label(mask)
    expected = [region for frame in mask for region in flooded(frame)]
    numbers = np.unique(labels[mask])
    assert numbers.tolist() == list(range(1, len(expected) + 1))
    found = [
        {(int(y), int(x)) for y, x in zip(*np.nonzero(frame == number), strict=True)}
        for frame in labels
        for number in np.setdiff1d(frame, [0])
    ]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))
    assert not labels[~mask].any()


def test_a_spiral_is_one_region() -> None:
    mask = np.zeros((1, 9, 9), dtype=bool)
    mask[0, 0, :] = mask[0, :, 8] = mask[0, 8, :] = mask[0, 2:, 0] = mask[0, 2, :7] = mask[0, 2:7, 6] = True
    assert label(mask).max() == 1


def test_erosion_undoes_dilation_of_a_box() -> None:
    mask = np.zeros((1, 12, 12), dtype=bool)
    mask[0, 4:8, 3:9] = True
    assert dilate(mask).sum() == 4 * 6 + 2 * (4 + 6)
    assert (erode(dilate(mask)) == mask).all()
    assert erode(mask).sum() == 2 * 4


def test_a_box_is_the_smallest_around_all_of_a_frame() -> None:
    generator = np.random.default_rng(0)
    mask = generator.random((8, 9, 7)) > 0.93
    mask[0] = False
    found = boxed(mask)
    for frame, box in zip(mask, found, strict=True):
        places = np.argwhere(frame)
        expected = np.zeros_like(frame)
        if len(places):
            (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0)
            expected[top : bottom + 1, left : right + 1] = True
        assert np.array_equal(box, expected)
