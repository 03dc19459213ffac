"""Whole guided sampling loops, with the field, the loop and the levels of the pipeline."""

import torch
from torch import Tensor

from kinoform.pipelines.generate import text_field
from kinoform.solvers.base import Solver, sample
from kinoform.solvers.dpmpp import DPMSolver
from kinoform.solvers.unipc import UniPC
from tests.conformance.golden import Golden
from tests.conformance.judge_dit import model_of

SOLVERS: dict[str, Solver] = {"unipc": UniPC(), "dpmpp": DPMSolver()}


@torch.inference_mode()
def judge(golden: Golden) -> dict[str, Tensor]:
    """The latents after every step, and the timesteps at which the model was asked."""
    model, c = model_of(golden), golden.config
    rows = (golden.inputs["context"][None], golden.inputs["context_null"][None])
    noise = golden.inputs["noise"][None]
    found = {}
    for name, solver in SOLVERS.items():
        levels = solver.levels(c["steps"], float(c["shift"]))
        field = text_field(model, rows, noise, float(c["guide_scale"]))
        found[f"out.{name}.timesteps"] = torch.tensor([int(level.timestep) for level in levels[:-1]])
        found[f"out.{name}.x"] = torch.cat([step.x for step in sample(solver, field, noise, levels)])
    return found


JUDGES = {"sampling_t2v": judge}
