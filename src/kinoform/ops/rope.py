"""Rotary positions on (time, height, width) (Su et al., 2021), from tables derived in float64."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor

from kinoform.types import Grid

THETA = 10000.0


class Rotary(NamedTuple):
    """Cosines and sines of the phases of every token, float32, shape [l, d/2] for a head width d."""

    cos: Float[Tensor, "l p"]
    sin: Float[Tensor, "l p"]


def grid_positions(grid: Grid) -> Float[Tensor, "l 3"]:
    """Coordinates (t, h, w) of a video's tokens, w fastest, each axis counted from 0; float64, on the CPU.

    There they stay: Apple's GPUs have no float64.
    """
    axes = [torch.arange(n, dtype=torch.float64, device="cpu") for n in (grid.frames, grid.height, grid.width)]
    return torch.cartesian_prod(*axes).reshape(-1, 3)


def phases(positions: Num[Tensor, "l 3"], head_width: int) -> Float[Tensor, "l p"]:
    """The angle of each complex column: position * theta^(-2j/m), a ladder of its own for each axis.

    The head's `d` real columns are split into d - 4*(d//6) for time and 2*(d//6) each for height and
    width (44, 42, 42 for d = 128). Positions may be any real numbers, negative ones included. Float64.
    """
    side = 2 * (head_width // 6)
    sizes = (head_width - 2 * side, side, side)
    ladders = [THETA ** (-torch.arange(0, m, 2, dtype=torch.float64, device="cpu") / m) for m in sizes]
    places = positions.detach().cpu().double()  # not every device has float64
    return torch.cat([places[:, axis, None] * ladder for axis, ladder in enumerate(ladders)], dim=1)


def turn(number: float, head_width: int) -> Float[Tensor, " p"]:
    """The angle by which a number turns each complex column: number * theta^(-2j/d), one ladder over the whole head.

    Float64, on the CPU.
    """
    columns = torch.arange(0, head_width, 2, dtype=torch.float64, device="cpu")
    return number * THETA ** (-columns / head_width)


def rotary(positions: Num[Tensor, "l 3"], head_width: int, device: torch.device | str = "cpu") -> Rotary:
    """Tables for `rotate`, made in float64 on the CPU and moved to `device` as they are used."""
    return tables(phases(positions, head_width), device)


def tables(angles: Float[Tensor, "l p"], device: torch.device | str = "cpu") -> Rotary:
    """Cosines and sines of float64 angles, moved to `device` as they are used."""
    return Rotary(angles.cos().float().to(device), angles.sin().float().to(device))


def rotate(x: Float[Tensor, "b l heads d"], table: Rotary) -> Float[Tensor, "b l heads d"]:
    """Turn each pair of columns (2j, 2j+1) by its token's phase, in float32: one complex product."""
    pairs = torch.view_as_complex(torch.unflatten(x.float().contiguous(), -1, (-1, 2)))
    return torch.view_as_real(pairs * torch.complex(table.cos, table.sin)[:, None]).flatten(-2)
