"""Videos as rows of tokens: the order on the way in is a convolution's, on the way out the head's."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from kinoform.ops.patch import Patch, covers, grid_of, patches, unpatch
from kinoform.types import Grid

PATCHES: list[Patch] = [(1, 2, 2), (4, 8, 8), (1, 1, 1), (2, 1, 4)]


def video(patch: Patch, channels: int = 3) -> torch.Tensor:
    sides = [n * p for n, p in zip((2, 3, 4), patch, strict=True)]
    return torch.randn(2, channels, *sides, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("patch", PATCHES)
def test_patches_are_what_a_convolution_reads(patch: Patch):
    x = video(patch)
    kernel = torch.randn(5, 3, *patch, generator=torch.Generator().manual_seed(2))
    wanted = F.conv3d(x.double(), kernel.double(), stride=patch).flatten(2).transpose(1, 2)
    assert torch.allclose(patches(x, patch).double() @ kernel.double().flatten(1).T, wanted)


@pytest.mark.parametrize("patch", PATCHES)
def test_unpatch_undoes_patches_once_channels_are_fastest(patch: Patch):
    x = video(patch)
    tokens = rearrange(patches(x, patch), "b l (c p) -> b l (p c)", c=3)
    assert torch.equal(unpatch(tokens, grid_of(x, patch), patch), x)


def test_unpatch_equals_the_recorded_example():
    """Two channels, a grid of 1 x 1 x 2; entry m of token j is 100 j + m."""
    tokens = torch.arange(8.0) + torch.tensor([[0.0], [100.0]])
    x = unpatch(tokens[None], Grid(frames=1, height=1, width=2), (1, 2, 2))[0, :, 0]
    assert x[0].tolist() == [[0, 2, 100, 102], [4, 6, 104, 106]]
    assert x[1].tolist() == [[1, 3, 101, 103], [5, 7, 105, 107]]


def test_a_grid_covers_only_what_it_fills():
    grid = Grid(frames=2, height=3, width=4)
    assert grid_of(torch.zeros(1, 1, 2, 6, 8), (1, 2, 2)) == grid
    assert covers(grid, torch.zeros(1, 1, 2, 6, 8), (1, 2, 2))
    assert not any(covers(grid, torch.zeros(1, 1, *size), (1, 2, 2)) for size in [(2, 6, 9), (3, 6, 8), (2, 7, 8)])
