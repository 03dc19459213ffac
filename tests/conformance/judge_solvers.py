"""The solvers' golden trajectories: every order, number of steps and shift that a file was made with."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from kinoform.solvers.base import Solver, sample
from kinoform.solvers.dpmpp import DPMSolver
from kinoform.solvers.unipc import UniPC
from kinoform.types import Latents, Level, Velocity
from tests.conformance.golden import Golden

SOLVERS: dict[str, Callable[[int], Solver]] = {
    "unipc": lambda order: UniPC(order=order),
    "dpmpp": lambda order: DPMSolver(order=order),
}


def judge_solvers(golden: Golden) -> dict[str, Tensor]:
    a, b, w = (golden.inputs[name] for name in "abw")

    def velocity(x: Latents, level: Level) -> Velocity:
        return a * x + b * torch.sin(w * level.timestep / 1000)

    outputs: dict[str, Tensor] = {}
    config = golden.config
    for name, (order, steps, shift) in product(
        SOLVERS, product(config["solver_order"], config["steps"], config["shifts"])
    ):
        solver = SOLVERS[name](order)
        levels = solver.levels(steps, float(shift))
        run = list(sample(solver, velocity, golden.inputs["x0"], levels))
        key = f"out.{name}_o{order}_n{steps}_s{shift}"
        outputs[f"{key}.sigmas"] = torch.tensor([level.sigma for level in levels])
        outputs[f"{key}.timesteps"] = torch.tensor([int(level.timestep) for level in levels[:-1]])
        outputs[f"{key}.x"] = torch.cat([step.x for step in run])
    return outputs


JUDGES = {"solvers_order2": judge_solvers, "solvers_order1_3": judge_solvers}
