"""Places and times as phases: recorded values, and what makes a rotary position relative."""

import math

import pytest
import torch
from torch import Tensor

from kinoform.ops.rope import grid_positions, phases, rotary, rotate
from kinoform.ops.sinusoid import sinusoid
from kinoform.types import Grid

HEAD = 24  # 8 real columns for each of time, height and width


def rows(seed: int, count: int) -> Tensor:
    return torch.randn(1, count, 2, HEAD, generator=torch.Generator().manual_seed(seed))


def places(seed: int, count: int) -> Tensor:
    """Coordinates that are neither whole nor positive."""
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 9


def products(q: Tensor, k: Tensor, at: Tensor) -> Tensor:
    table = rotary(at, HEAD)
    return torch.einsum("blhd,bmhd->bhlm", rotate(q, table), rotate(k, table))


def test_table_equals_the_recorded_one():
    angles = phases(torch.full((1, 3), 5), 128)[0]
    recorded = {
        0: (0.283662, -0.958924), 3: (0.146252, 0.989247), 21: (0.9999997, 0.00075996),
        22: (0.283662, -0.958924), 25: (0.227440, 0.973792),
        43: (0.283662, -0.958924), 63: (0.9999997, 0.00077526),
    }  # fmt: skip
    for column, (cos, sin) in recorded.items():
        assert angles[column].cos().item() == pytest.approx(cos, abs=6e-7), column
        assert angles[column].sin().item() == pytest.approx(sin, abs=6e-7), column


def test_sinusoid_equals_the_recorded_one():
    wave = sinusoid(torch.tensor([873.0]), 256)[0]
    assert wave[[0, 1, 2, 127]].tolist() == pytest.approx([0.93492180, -0.28373867, -0.42034100, 0.99560276], abs=1e-7)
    assert wave[[128, 129, 130, 255]].tolist() == pytest.approx(
        [-0.35485381, 0.95890165, 0.90736621, 0.09367572], abs=1e-7
    )


@pytest.mark.parametrize(("width", "sizes"), [(128, (44, 42, 42)), (24, (8, 8, 8)), (64, (24, 20, 20))])
def test_each_axis_turns_its_own_columns(width: int, sizes: tuple[int, int, int]):
    starts = (0, sizes[0] // 2, (sizes[0] + sizes[1]) // 2, width // 2)
    for axis in range(3):
        place = torch.zeros(1, 3)
        place[0, axis] = 3
        turned = phases(place, width)[0].nonzero().flatten().tolist()
        assert turned == list(range(starts[axis], starts[axis + 1]))


@pytest.mark.parametrize("axis", range(3))
def test_shifting_every_place_alike_leaves_the_products(axis: int):
    q, k, at = rows(1, 7), rows(2, 7), places(3, 7)
    shift = torch.zeros(3, dtype=torch.float64)
    shift[axis] = -17.25
    assert torch.allclose(products(q, k, at + shift), products(q, k, at), atol=2e-5)
    moved = at.clone()
    moved[3:] += shift
    assert not torch.allclose(products(q, k, moved), products(q, k, at), atol=1e-1), "a relative shift is seen"


def test_the_negative_place_turns_back():
    x, at = rows(4, 5), places(5, 5)
    turned = rotate(x, rotary(at, HEAD))
    assert torch.allclose(rotate(turned, rotary(-at, HEAD)), x, atol=1e-5)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-5)
    assert not torch.allclose(turned, x, atol=1e-1)


def test_two_half_turns_make_one():
    x, at = rows(6, 5), places(7, 5)
    half = rotary(at / 2, HEAD)
    assert torch.allclose(rotate(rotate(x, half), half), rotate(x, rotary(at, HEAD)), atol=1e-5)


def test_far_places_are_as_exact_as_near_ones():
    """Angles are taken in float64: a float32 product would be off by thousandths here."""
    far = rotary(torch.tensor([[1e5, 0, 0]]), 64)
    angle = 1e5 * 10000 ** (-2 / 24)
    assert far.cos[0, 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert far.sin[0, 1].item() == pytest.approx(math.sin(angle), abs=1e-6)
    assert far.cos.dtype == far.sin.dtype == torch.float32


def test_the_video_is_walked_with_width_fastest():
    walk = grid_positions(Grid(frames=2, height=3, width=4))
    assert walk.shape == (24, 3)
    assert walk[:6].tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 1, 0], [0, 1, 1]]
    assert walk[-1].tolist() == [1, 2, 3]
