"""diffusers' pipelines make the same video with two experts, each with its guidance, from a folder that is converted.

Where the two disagree, diffusers has left the official code, and this test goes around it:

* levels and solver: see test_diffusers_pipeline.py, whose scheduler is used here too; of its own grid, another step may
  be the first of the expert for low noise;
* `guidance_scale` is that of high noise, `guidance_scale_2` of low noise and equal to the first where it is not given;
* no guidance is decided by the scale of high noise alone: at 1 there, that of low noise is not heard. Both are above 1
  here;
* images and control videos: see test_diffusers_image_to_video.py and test_diffusers_vace.py. They have the video's
  size here.

Which expert makes a step, the history of the solver across the switch, and the channels of an image without an image
encoder need no help.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import NOTHING, ConditionerOutput
from kinoform.conditions.standard_inputs import FRAMES as FRAMES_INPUT
from kinoform.conditions.vace import Vace
from kinoform.conversion.convert import Conversion, convert
from kinoform.models.codec import decode_video
from kinoform.models.vae import VAE
from kinoform.pipelines.experts import Experts
from kinoform.pipelines.generate import denoise
from kinoform.pipelines.request import Request
from kinoform.recipes.load import load
from kinoform.solvers.unipc import UniPC
from tests.conditions.in_hand import InHand, image
from tests.conformance.against_diffusers import gap, with_exact_times
from tests.conformance.test_diffusers_image_to_video import drawn, pixels
from tests.conformance.test_diffusers_pipeline import FRAMES, SHIFT, STEPS, OurScheduler
from tests.conformance.test_diffusers_vace import CASES, VIDEO, theirs
from tests.support.expert_folders import BOUNDARIES, KINDS, SEEDS, tiny_expert, write_expert_folder
from tests.support.narrowing import of_type
from tests.support.official_folder import TEXT

diffusers: Any = pytest.importorskip(
    "diffusers", reason="the judge, diffusers, is not installed: pip install 'kinoform[conformance]'"
)

CPU = torch.device("cpu")
HIGH, LOW = 4.0, 3.0
LATENTS = 1e-4
"""Bound of the greatest difference over the RMS."""

FIRST = image(1, VIDEO.height, VIDEO.width)
CONTROL = CASES["mask of greys"]


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_the_video_of_two_experts_is_the_same(kind: str, tmp_path: Path) -> None:
    convert(
        write_expert_folder(tmp_path / "official", "official", kind), tmp_path / "there", Conversion(to="diffusers")
    )
    codec = of_type(VAE, load(tmp_path / "there", device="cpu").parts.codec(CPU))
    given, told = inputs_of(kind, codec)
    noise = drawn(7, 1, 16, 3, 4, 6)
    rows = drawn(8, 1, TEXT.length, TEXT.dim), drawn(9, 1, TEXT.length, TEXT.dim)
    judge = their_pipeline(tmp_path / "there")

    def judged(output: str, low: float = LOW) -> Tensor:
        return judge(
            **told, prompt_embeds=rows[0], negative_prompt_embeds=rows[1], latents=noise, num_inference_steps=STEPS,
            guidance_scale=HIGH, guidance_scale_2=low, height=VIDEO.height, width=VIDEO.width,
            num_frames=VIDEO.num_frames, output_type=output,
        ).frames  # fmt: skip

    experts = Experts([partial(tiny_expert, name, kind) for name in SEEDS], CPU)
    latents = denoise(experts, request(kind), rows, lambda: noise, lambda progress: None, given)
    ours = torch.cat(list(decode_video(codec, latents)), dim=2).clamp(-1, 1) / 2 + 0.5
    found, frames = gap(latents, judged("latent")), (ours.transpose(1, 2) - judged("pt")).abs().max().item()
    print(f"{kind}, latents {found:.1e} of the RMS, frames {frames:.1e}")
    assert ours.std() > 0.01, "the video shows something"
    assert found < LATENTS and frames < FRAMES
    assert gap(latents, judged("latent", low=HIGH)) > 100 * LATENTS, "the second scale is that of low noise"


def inputs_of(kind: str, codec: VAE) -> tuple[ConditionerOutput, dict[str, Any]]:
    """Return the outputs of the conditioners, and the inputs as diffusers takes them."""
    encoders = InHand(made_codec=codec)
    if kind == "i2v":
        return KnownFrames().encode(Inputs({FRAMES_INPUT: {0: FIRST}}), VIDEO, encoders), {"image": pixels(FIRST)}
    if kind == "vace":
        return Vace().encode(CONTROL, VIDEO, encoders), theirs(CONTROL, ())
    return NOTHING, {}


def request(kind: str) -> Request:
    return Request(
        prompt="a", negative_prompt="", seed=0, width=VIDEO.width, height=VIDEO.height, num_frames=VIDEO.num_frames,
        fps=16.0, steps=STEPS, guidance_scale={"high": HIGH, "low": LOW}, shift=SHIFT, solver=UniPC(),
        boundaries=(BOUNDARIES[kind],),
    )  # fmt: skip


def their_pipeline(folder: Path) -> Any:
    """The pipeline of the folder; prompts are given to it as embeddings."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    for transformer in (pipeline.transformer, pipeline.transformer_2):
        with_exact_times(transformer)
    pipeline.scheduler = OurScheduler(UniPC())
    boundary = pipeline.config.boundary_ratio * 1000
    made_by_high = [time >= boundary for time in pipeline.scheduler.timesteps]
    assert any(made_by_high) and not all(made_by_high)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
