"""The primitives file: rotary positions, sinusoid, norms, GELU."""

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

from kinoform.ops.norm import layer_norm, rms_norm
from kinoform.ops.rope import grid_positions, phases, rotary, rotate
from kinoform.ops.sinusoid import sinusoid
from kinoform.types import Grid
from tests.conformance.golden import Golden

EPS = 1e-6


def judge(golden: Golden) -> dict[str, Tensor]:
    given = golden.inputs
    found = {
        "out.gelu_tanh": F.gelu(given["gelu.x"], approximate="tanh"),
        "out.layernorm": layer_norm(given["norm.x"], EPS, given["norm.weight"], given["norm.bias"]),
        "out.layernorm_plain": layer_norm(given["norm.x"], EPS),
        "out.rmsnorm": rms_norm(given["norm.x"], given["norm.weight"], EPS),
    }
    for name in golden.outputs:
        if match := re.fullmatch(r"out\.sinusoidal(\d+)", name):
            found[name] = sinusoid(given["positions"].float(), int(match[1]))
        elif match := re.fullmatch(r"out\.rope(\d+)\.angles", name):
            found[name] = _table(int(match[1]))
        elif match := re.fullmatch(r"out\.rope(\d+)\.y", name):
            found[name] = _rotated(given[f"rope{match[1]}.x"], golden.config["grids"])
    return found


def _table(width: int) -> Tensor:
    """The phases of positions 0..31, the same on all three axes, wrapped to (-pi, pi]."""
    places = torch.arange(32.0)[:, None].expand(-1, 3)
    angles = phases(places, width)
    return (math.pi - torch.remainder(math.pi - angles, 2 * math.pi)).float()


def _rotated(x: Tensor, grids: list[list[int]]) -> Tensor:
    """Each sample on its own grid; tokens after it are padding and pass unturned."""
    y = x.clone()
    for sample, (frames, height, width) in enumerate(grids):
        grid = Grid(frames=frames, height=height, width=width)
        video = x[sample : sample + 1, : grid.tokens]
        y[sample, : grid.tokens] = rotate(video, rotary(grid_positions(grid), x.shape[-1]))[0]
    return y


JUDGES = {"primitives": judge}
