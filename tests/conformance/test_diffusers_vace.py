"""diffusers' WanVACEPipeline packs the same control and makes the same video, where it follows the official code.

Where it does not (0.42.1):

* It puts each reference in front of those before it, so that several stand in reverse order; the official code
  keeps their order. Given in reverse, they are packed as here.
* The mask of the references is as long as the video at most: with more references than latent frames it fails.
  (The official code has the same slip; here there are as many zero frames as references.)
* It keeps the video's size, or shrinks it to the asked area with Lanczos; the official code resizes by its
  budget of tokens, bicubic, and crops. So the videos here already have their size.
* It first resizes references whose sides are not multiples of 8; those here have such sides.
* Its schedulers and its float32 sinusoid: see test_diffusers_pipeline.py and against_diffusers.py.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import ConditionerOutput, VideoSize
from kinoform.conditions.standard_inputs import CONTEXT_SCALE, MASK, REFERENCE_IMAGES
from kinoform.conditions.standard_inputs import VIDEO as VIDEO_INPUT
from kinoform.conditions.vace import Vace
from kinoform.families.transformer_names import DIFFUSERS_NAMES as DIFFUSERS_DIT
from kinoform.families.vae21 import diffusers_names
from kinoform.media.types import InputImage, InputVideo, Mask
from kinoform.models.codec import decode_video
from kinoform.models.dit import DiT
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.models.vae import VAE
from kinoform.pipelines.generate import text_field
from kinoform.solvers.base import sample
from kinoform.solvers.unipc import UniPC
from tests.conditions.in_hand import InHand, image
from tests.conformance.against_diffusers import with_exact_times
from tests.conformance.test_diffusers_pipeline import FRAMES, GUIDANCE, SHIFT, STEPS, OurScheduler
from tests.support.diffusers_folder import CONFIGS
from tests.support.official_folder import TEXT, TRANSFORMER, official_tensors, tiny_modules

diffusers: Any = pytest.importorskip(
    "diffusers", reason="the judge, diffusers, is not installed: pip install 'kinoform[conformance]'"
)

SIDE = VaceBlocks(layers=(0, 2))
VIDEO = VideoSize(num_frames=9, height=32, width=48)
SCALE = 0.7
CLIP = InputVideo(frames=np.random.default_rng(1).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8))
GREYS = Mask(values=np.random.default_rng(2).integers(0, 256, (9, 32, 48), dtype=np.uint8))
IMAGES = tuple(image(seed, height, width) for seed, height, width in ((3, 24, 16), (4, 64, 48), (5, 32, 48)))
CASES = {
    "control video": Inputs({VIDEO_INPUT: CLIP}),
    "mask of greys": Inputs({VIDEO_INPUT: CLIP, MASK: GREYS}),
    "one reference": Inputs({REFERENCE_IMAGES: IMAGES[:1]}),
    "mask and reference": Inputs({VIDEO_INPUT: CLIP, MASK: GREYS, REFERENCE_IMAGES: IMAGES[1:2]}),
    "three references": Inputs({VIDEO_INPUT: CLIP, MASK: GREYS, REFERENCE_IMAGES: IMAGES}),
}


@pytest.fixture(scope="module")
def parts() -> tuple[DiT, VAE]:
    modules = tiny_modules(transformer=replace(TRANSFORMER, branches=(SIDE,)))
    assert isinstance(modules.transformer, DiT) and isinstance(modules.autoencoder, VAE)
    return modules.transformer, modules.autoencoder


@pytest.fixture(scope="module")
def judge(parts: tuple[DiT, VAE]) -> Any:
    model, codec = parts
    told = {key: value for key, value in CONFIGS["transformer"].items() if not key.startswith("_")}
    transformer = diffusers.WanVACETransformer3DModel(
        **told, vace_layers=list(SIDE.layers), vace_in_channels=SIDE.channels
    )
    transformer.load_state_dict(official_tensors(model, DIFFUSERS_DIT))
    vae = diffusers.AutoencoderKLWan(**{key: value for key, value in CONFIGS["vae"].items() if not key.startswith("_")})
    vae.load_state_dict(official_tensors(codec, diffusers_names()))
    pipeline = diffusers.WanVACEPipeline(
        None, None, vae.eval(), OurScheduler(UniPC()), with_exact_times(transformer.eval())
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ours(parts: tuple[DiT, VAE], inputs: Inputs) -> ConditionerOutput:
    return Vace().encode(inputs | {CONTEXT_SCALE: SCALE}, VIDEO, InHand(made_codec=parts[1]))


def theirs(inputs: Inputs, references: tuple[InputImage, ...]) -> dict[str, Any]:
    """The inputs as diffusers takes them."""
    clip, mask = inputs[VIDEO_INPUT], inputs[MASK]
    return {
        "video": None if clip is None else [Image.fromarray(frame) for frame in clip.frames],
        "mask": None if mask is None else [Image.fromarray(frame) for frame in mask.values],
        "reference_images": [Image.fromarray(each.pixels) for each in references] or None,
    }


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_the_control_is_packed_alike(name: str, parts: tuple[DiT, VAE], judge: Any) -> None:
    inputs = CASES[name]
    found = ours(parts, inputs).branches["vace"].latents
    told = theirs(inputs, tuple(reversed(inputs[REFERENCE_IMAGES])))
    video, mask, references = judge.preprocess_conditions(**told, height=32, width=48, num_frames=9)
    wanted = judge.prepare_video_latents(video, mask, references)
    wanted = torch.cat([wanted, judge.prepare_masks(mask, references)], dim=1)
    assert found.shape == wanted.shape and found.shape[2] == 3 + len(inputs[REFERENCE_IMAGES])
    largest = ((found - wanted).abs().amax() / wanted.std()).item()
    print(f"{name}: {largest:.1e}")
    assert largest < 1e-5


@pytest.mark.parametrize("name", ["mask of greys", "three references"])
@torch.inference_mode()
def test_the_video_is_the_same(name: str, parts: tuple[DiT, VAE], judge: Any) -> None:
    inputs, (model, codec), draw = CASES[name], parts, torch.Generator().manual_seed(7)
    given, told = ours(parts, inputs), theirs(inputs, tuple(reversed(inputs[REFERENCE_IMAGES])))
    noise = torch.randn(1, 16, 3 + given.constraints.prefix_frames, 4, 6, generator=draw)
    rows: tuple[Tensor, Tensor] = (torch.zeros(1, TEXT.length, TEXT.dim), torch.zeros(1, TEXT.length, TEXT.dim))
    for each in rows:
        each[:, :5] = torch.randn(1, 5, TEXT.dim, generator=draw)
    levels = UniPC().levels(STEPS, SHIFT)
    *_, last = sample(UniPC(), text_field(model, rows, noise, GUIDANCE, given), noise, levels)
    video = (
        torch.cat(list(decode_video(codec, last.x[:, :, given.constraints.prefix_frames :])), dim=2).clamp(-1, 1) / 2
        + 0.5
    )
    wanted = judge(
        **told, prompt_embeds=rows[0], negative_prompt_embeds=rows[1], latents=noise, num_inference_steps=STEPS,
        guidance_scale=GUIDANCE, conditioning_scale=SCALE, height=32, width=48, num_frames=9, output_type="pt",
    ).frames  # fmt: skip
    assert video.std() > 0.01, "the video shows something"
    video = video.transpose(1, 2)
    assert video.shape == wanted.shape == (1, 9, 3, 32, 48)
    largest = (video - wanted).abs().max().item()
    print(f"{name}: frames {largest:.1e}")
    assert largest < FRAMES


@torch.inference_mode()
def test_several_references_stand_there_in_reverse(parts: tuple[DiT, VAE], judge: Any) -> None:
    """The disagreement itself, so that it is noticed when it ends."""
    inputs = CASES["three references"]
    found = ours(parts, inputs).branches["vace"].latents[:, :16, :3]
    video, mask, references = judge.preprocess_conditions(
        **theirs(inputs, inputs[REFERENCE_IMAGES]), height=32, width=48
    )
    wanted = judge.prepare_video_latents(video, mask, references)[:, :16, :3]
    assert torch.allclose(found.flip(2), wanted, atol=1e-5) and not torch.allclose(found, wanted)
