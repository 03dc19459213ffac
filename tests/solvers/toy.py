"""Small fields for solver tests, and every solver to try them with."""

import numpy as np
import torch
from torch import Tensor

from kinoform.solvers.base import Solver, Step, sample
from kinoform.solvers.dpmpp import DPMSolver, heun
from kinoform.solvers.euler import Euler
from kinoform.solvers.unipc import UniPC
from kinoform.types import Field, Level

SOLVERS: dict[str, Solver] = {
    "euler": Euler(),
    "dpmpp1": DPMSolver(order=1),
    "dpmpp2": DPMSolver(order=2),
    "dpmpp2-heun": DPMSolver(order=2, second_order=heun),
    "dpmpp3": DPMSolver(order=3),
    "unipc1": UniPC(order=1),
    "unipc2": UniPC(order=2),
    "unipc3": UniPC(order=3),
    "unipc4": UniPC(order=4),
    "unipc2-uncorrected": UniPC(order=2, uncorrected=frozenset(range(100))),
}


def wave(x: Tensor, level: Level) -> Tensor:
    """Smooth, nonlinear, and every value by itself."""
    return torch.sin(3 * x + level.sigma) + 0.3 * x


def noise(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def run(
    solver: Solver, x: Tensor, steps: int, shift: float = 5.0, *, field: Field = wave, start: int = 0
) -> list[Step]:
    return list(sample(solver, field, x, solver.levels(steps, shift), start=start))


def gap(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference over the RMS of `theirs`."""
    ours, theirs = ours.double(), theirs.double()
    return ((ours - theirs).abs().max() / theirs.square().mean().sqrt()).item()
