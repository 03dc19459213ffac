"""The first frame of TI2V-5B: the size it asks for, its pixels and latents, and whole loops behind it."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kinoform.conditions.first_frame import FirstFrame, best_fit, covering
from kinoform.conditions.inputs import NO_INPUTS, Inputs
from kinoform.conditions.protocols import ConditionerOutput, Units, VideoSize
from kinoform.conditions.standard_inputs import FRAMES
from kinoform.media.types import InputImage
from kinoform.models.dit import DiT, at_rest
from kinoform.ops.patch import grid_of
from kinoform.pipelines.experts import Experts
from kinoform.pipelines.generate import Rows, prepare_run
from kinoform.pipelines.request import Request
from kinoform.solvers.base import Solver
from kinoform.solvers.dpmpp import DPMSolver
from kinoform.solvers.sampler import Run
from kinoform.solvers.unipc import UniPC
from kinoform.types import Latents, Level, Velocity
from tests.conditions.in_hand import InHand, image
from tests.conformance.golden import Golden
from tests.conformance.judge_dit import model_of
from tests.conformance.judge_vae import model_of as autoencoder_of

RUNS: tuple[tuple[str, Solver, bool], ...] = (
    ("t2v.unipc", UniPC(), False),
    ("i2v.unipc", UniPC(), True),
    ("i2v.dpmpp", DPMSolver(), True),
)
UNITS = Units(stride=(4, 16, 16), patch=(1, 2, 2))


class OneLatent:
    """A codec of one latent frame, which was recorded."""

    channels, stride = 48, UNITS.stride

    def __init__(self, latent: Tensor) -> None:
        self.latent = latent

    def encode(self, pixels: Tensor, history: Any = None) -> tuple[Tensor, Any]:
        return self.latent[None], ()

    def decode(self, latents: Tensor, history: Any = None) -> tuple[Tensor, Any]:
        raise NotImplementedError


@torch.inference_mode()
def judge_sampling(golden: Golden) -> dict[str, Tensor]:
    """Whole loops of the pipeline, with and without an image, and the sizes that images ask for."""
    model, c = model_of(golden), golden.config
    rows = (golden.inputs["context"][None], golden.inputs["context_null"][None])
    noise, (width, height) = golden.inputs["noise"][None], c["size_wh"]
    video, found = VideoSize(num_frames=c["frames"], height=height, width=width), dict[str, Tensor]()
    for name, solver, shown in RUNS:
        inputs = Inputs({FRAMES: {0: image(1, height, width)}}) if shown else NO_INPUTS
        given = FirstFrame().encode(inputs, video, InHand(made_codec=OneLatent(golden.inputs["z"])))
        request = Request(
            prompt="a", negative_prompt="", seed=0, width=width, height=height, num_frames=c["frames"], fps=24.0,
            steps=c["steps"], guidance_scale=c["guide_scale"], shift=c["shift"], solver=solver,
        )  # fmt: skip
        found |= {f"out.{name}.{key}": value for key, value in _loop(model, request, rows, noise, given).items()}
    for number, area in enumerate(c["size_areas"]):
        sizes = [best_fit((h, w), area, UNITS.side) for w, h in golden.inputs["sizes.wh"].tolist()]
        found[f"out.sizes.area{number}"] = torch.tensor(sizes).flip(1)
    return {name: value for name, value in found.items() if name in golden.outputs}


def _loop(model: DiT, request: Request, rows: Rows, noise: Latents, given: ConditionerOutput) -> dict[str, Tensor]:
    experts = Experts([lambda: model], noise.device)
    run = prepare_run(experts, request, rows, lambda: noise, given)
    times, velocities = list[Tensor](), list[Velocity]()

    def listening(x: Latents, level: Level) -> Velocity:
        tokens = grid_of(x, model.spec.patch).tokens
        times.append(
            at_rest(torch.tensor([level.timestep]), given.clean).expand(tokens if given.clean is None else 1, -1)
        )
        velocities.append(run.field(x, level))
        return velocities[-1]

    states = [step.x for step in request.sampler.steps(replace(run, field=listening))]
    return {
        "start": _constrained(run, noise)[0],
        "timesteps": torch.tensor([int(level.timestep) for level in run.levels[:-1]]),
        "times": torch.stack([each.flatten() for each in times]),
        "v": torch.cat(velocities),
        "x": torch.cat(states),
    }


def _constrained(run: Run, x: Latents) -> Latents:
    return x if run.constrain is None else run.constrain(x, run.levels[0])


@torch.inference_mode()
def judge_pipeline(golden: Golden) -> dict[str, Tensor]:
    """From an image of 8 bits to size, pixels, latent, the state before the loop and the times of tokens."""
    codec, found = autoencoder_of(golden), dict[str, Tensor]()
    for number, (width, height, area, frames) in enumerate(golden.config["cases"]):
        picture = InputImage(pixels=golden.inputs[f"picture{number}"].numpy())
        assert picture.size == (height, width)
        inputs = Inputs({FRAMES: {0: picture}})
        asked = VideoSize(num_frames=frames, height=1, width=area)
        video = FirstFrame().size(inputs, asked, UNITS)
        given = FirstFrame().encode(inputs, video, InHand(made_codec=codec))
        known, noise = given.constraints.inpainting, golden.inputs[f"noise{number}"][None]
        assert known is not None
        level = Level(sigma=1.0, timestep=999.0)
        found[f"out.pixels{number}"] = covering(picture, (video.height, video.width))[0, :, 0]
        found[f"out.z{number}"] = known.latents[0, :, :1]
        found[f"out.start{number}"] = known.impose(noise, level, noise)[0]
        found[f"out.times{number}"] = at_rest(torch.tensor([level.timestep]), given.clean)[0]
    return found


JUDGES = {"sampling22_ti2v": judge_sampling, "pipeline22_ti2v": judge_pipeline}
