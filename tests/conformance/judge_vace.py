"""The transformer with VACE's side blocks, at several scales of its hints."""

from dataclasses import replace

import torch
from torch import Tensor

from kinoform.models.vace_blocks import VaceContext
from kinoform.ops.patch import grid_of
from tests.conformance.golden import Golden
from tests.conformance.judge_dit import conditions_of, model_of


@torch.inference_mode()
def judge(golden: Golden) -> dict[str, Tensor]:
    """Each sample of the batch alone, at each scale."""
    model, found = model_of(golden), {}
    for sample, time in enumerate(golden.inputs["t"].float()):
        x = golden.inputs[f"x{sample}"][None]
        for place, scale in enumerate(golden.config["scales"]):
            control = VaceContext(latents=golden.inputs[f"vace{sample}"][None], scale=scale)
            told = replace(conditions_of(golden, sample), branches={"vace": control})
            prepared = model.prepare(told, grid_of(x, model.spec.patch))
            found[f"out.sample{sample}_scale{place}"] = model(x, time[None], prepared)[0]
    return found


JUDGES = {"dit_vace": judge}
