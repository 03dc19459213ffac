"""diffusers' pipelines with `expand_timesteps` make the same video as TI2V-5B here: of text, and of a first frame.

Where the two disagree, diffusers has left the official code, and this test goes around it:

* levels and solver: see test_diffusers_pipeline.py, whose scheduler is used here too;
* it stretches an image to the video's size, where the official code and kinoform cover it and crop, so the image has
  that size here;
* it lets the latents of the first frame run free and puts those of the image into what the model reads and into the
  result; the official code and kinoform put them back after every step. Solvers treat every number by itself, so the
  other frames are the same.

The time of each token, and its autoencoder, need no help.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from kinoform.conditions.first_frame import FirstFrame
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import NOTHING, VideoSize
from kinoform.conditions.standard_inputs import FRAMES as FRAMES_INPUT
from kinoform.conversion.convert import Conversion, convert
from kinoform.families.vae22 import official_names
from kinoform.models.codec import decode_video
from kinoform.models.vae22 import VAE22
from kinoform.pipelines.experts import in_memory
from kinoform.pipelines.generate import denoise
from kinoform.pipelines.request import Request
from kinoform.solvers.unipc import UniPC
from tests.conditions.in_hand import InHand, image
from tests.conformance.against_diffusers import (
    KINDS,
    TEXT_WIDTH,
    tiny_transformer,
    with_exact_times,
    write_official_transformer,
)
from tests.conformance.test_diffusers_image_to_video import drawn, pixels
from tests.conformance.test_diffusers_pipeline import FRAMES, GUIDANCE, ROWS, SHIFT, STEPS, OurScheduler
from tests.support.narrowing import of_type, some
from tests.support.official_folder import CODEC_22_FILE, TRANSFORMERS, official_tensors, tiny_modules

diffusers: Any = pytest.importorskip(
    "diffusers", reason="the judge, diffusers, is not installed: pip install 'kinoform[conformance]'"
)

VIDEO = VideoSize(num_frames=9, height=64, width=96)
FIRST = image(1, VIDEO.height, VIDEO.width)
CODEC = of_type(VAE22, tiny_modules(transformer=TRANSFORMERS["ti2v"]).autoencoder)


@torch.inference_mode()
@pytest.mark.parametrize("pipeline", ["WanImageToVideoPipeline", "WanPipeline"])
def test_the_video_is_the_same(pipeline: str, tmp_path: Path) -> None:
    model = tiny_transformer(KINDS["ti2v"])
    inputs = Inputs({FRAMES_INPUT: {0: FIRST}})
    first = FirstFrame().encode(inputs, VIDEO, InHand(made_codec=CODEC))
    noise = drawn(7, *some(first.constraints.inpainting).latents.shape)
    given, told = (NOTHING, {}) if pipeline == "WanPipeline" else (first, {"image": pixels(FIRST)})
    rows = drawn(8, 1, ROWS, TEXT_WIDTH), drawn(9, 1, ROWS, TEXT_WIDTH)
    request = Request(
        prompt="a", negative_prompt="", seed=0, width=VIDEO.width, height=VIDEO.height, num_frames=VIDEO.num_frames,
        fps=24.0, steps=STEPS, guidance_scale=GUIDANCE, shift=SHIFT, solver=UniPC(),
    )  # fmt: skip
    latents = denoise(in_memory(model), request, rows, lambda: noise, lambda progress: None, given)
    ours = torch.cat(list(decode_video(CODEC, latents)), dim=2).clamp(-1, 1) / 2 + 0.5

    judge = their_pipeline(pipeline, tmp_path, write_official_transformer(tmp_path / "official", KINDS["ti2v"], model))
    theirs = judge(
        **told, prompt_embeds=rows[0], negative_prompt_embeds=rows[1], latents=noise,
        num_inference_steps=STEPS, guidance_scale=GUIDANCE, height=VIDEO.height, width=VIDEO.width,
        num_frames=VIDEO.num_frames, output_type="pt",
    ).frames  # fmt: skip
    assert ours.std() > 0.01, "the video shows something"
    found = (ours.transpose(1, 2) - theirs).abs().max().item()
    print(f"ti2v, {pipeline}, frames {found:.1e}")
    assert found < FRAMES


def their_pipeline(name: str, folder: Path, written: Path) -> Any:
    """Pipeline of diffusers with the same weights; prompts are given to it as embeddings."""
    convert(written, folder / "transformer", Conversion(to="diffusers"))
    torch.save(official_tensors(CODEC, official_names()), folder / CODEC_22_FILE)
    convert(folder / CODEC_22_FILE, folder / "vae", Conversion(to="diffusers"))
    pipeline = getattr(diffusers, name)(
        tokenizer=None,
        text_encoder=None,
        vae=diffusers.AutoencoderKLWan.from_pretrained(folder / "vae").eval(),
        scheduler=None,
        transformer=with_exact_times(diffusers.WanTransformer3DModel.from_pretrained(folder / "transformer").eval()),
        expand_timesteps=True,
    )
    pipeline.scheduler = OurScheduler(UniPC())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
