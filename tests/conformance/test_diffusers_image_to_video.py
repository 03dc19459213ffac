"""diffusers' WanImageToVideoPipeline makes the same video of the same images: of a first, or of a first and a last.

Where the two disagree, diffusers has left the official code, and this test goes around it:

* levels and solver: see test_diffusers_pipeline.py, whose scheduler is used here too;
* an image of another size is resized with Lanczos (a tensor to the nearest pixel) and stretched to the video; the
  official code and kinoform take bicubic without antialiasing, and crop a last image of other proportions. So
  the images have the video's size here;
* the image encoder is shown the middle of an image, antialiased, where the official code stretches the whole
  image to a square. So it is told kinoform's rows; not as `image_embeds`, which the pipeline refuses beside
  the `image` that it needs for the channels, but by its `encode_image`;
* of a last frame it knows no more than the official code; frames between have no counterpart.

The mask and its place before the latents, the grey video, and the order of the images' rows need no help.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.conditions.image_tokens import ImageTokens
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import Conditioner, ConditionerOutput, VideoSize, together
from kinoform.conditions.resize import signal
from kinoform.conditions.standard_inputs import FRAMES as FRAMES_INPUT
from kinoform.conversion.convert import Conversion, convert
from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.media.types import InputImage
from kinoform.models.codec import decode_video
from kinoform.models.dit import DiT
from kinoform.models.vae import VAE
from kinoform.models.vision import VisionSpec
from kinoform.pipelines.generate import text_field
from kinoform.solvers.base import sample
from kinoform.solvers.unipc import UniPC
from tests.conditions.in_hand import InHand, image, random_module
from tests.conformance.against_diffusers import (
    IMAGE_ROWS,
    IMAGE_WIDTH,
    KINDS,
    TEXT_WIDTH,
    gap,
    tiny_transformer,
    with_exact_times,
    write_official_transformer,
)
from tests.conformance.test_diffusers_pipeline import FRAMES, GUIDANCE, ROWS, SHIFT, STEPS, OurScheduler
from tests.support.narrowing import of_type, some
from tests.support.official_folder import official_tensors, tiny_modules

diffusers: Any = pytest.importorskip(
    "diffusers", reason="the judge, diffusers, is not installed: pip install 'kinoform[conformance]'"
)

CHANNELS = 5e-5
"""Bound over the RMS: as of the codec alone, see test_diffusers_codec_and_text.py."""

HEIGHT, WIDTH = 32, 48
FIRST, LAST = (image(seed, HEIGHT, WIDTH) for seed in (1, 2))
VISION = VisionSpec(image=32, patch=2, dim=IMAGE_WIDTH, heads=2, layers=2, dim_ffn=24)
ENCODERS = InHand(made_codec=of_type(VAE, tiny_modules().autoencoder), made_image=random_module(VISION))

CONDITIONERS: Mapping[str, tuple[Conditioner, ...]] = {
    "i2v": (KnownFrames(), ImageTokens()),
    "flf2v": (KnownFrames(), ImageTokens(images=2)),
    "expert-i2v": (KnownFrames(),),
}


@torch.inference_mode()
@pytest.mark.parametrize("num_frames", [5, 9])
@pytest.mark.parametrize("name", CONDITIONERS)
def test_the_video_is_the_same(name: str, num_frames: int, tmp_path: Path) -> None:
    """Whatever the number of frames; the official code makes videos from two images with 81 frames alone."""
    video = VideoSize(num_frames=num_frames, height=HEIGHT, width=WIDTH)
    images = (FIRST, LAST) if name == "flf2v" else (FIRST,)
    shown = dict(zip((0, -1), images, strict=False))
    conditioners = CONDITIONERS[name]
    given = together(each.encode(Inputs({FRAMES_INPUT: shown}), video, ENCODERS) for each in conditioners)
    assert given.channels is not None and given.channels.shape[1] == 20
    model = tiny_transformer(KINDS[name])
    judge = their_pipeline(name, model, given, tmp_path)

    told = {"image": pixels(FIRST), "last_image": pixels(LAST) if name == "flf2v" else None}
    found = gap(given.channels, their_channels(judge, video, told))
    print(f"{name}, channels {found:.1e}")
    assert found < CHANNELS

    noise = drawn(7, *given.channels.shape[:1], 16, *given.channels.shape[2:])
    rows = drawn(8, 1, ROWS, TEXT_WIDTH), drawn(9, 1, ROWS, TEXT_WIDTH)
    field = text_field(model, rows, noise, GUIDANCE, given)
    *_, last = sample(UniPC(), field, noise, UniPC().levels(STEPS, SHIFT))
    ours = torch.cat(list(decode_video(ENCODERS.codec(), last.x)), dim=2).clamp(-1, 1) / 2 + 0.5
    theirs = judge(
        **told, prompt_embeds=rows[0], negative_prompt_embeds=rows[1], latents=noise, num_inference_steps=STEPS,
        guidance_scale=GUIDANCE, height=HEIGHT, width=WIDTH, num_frames=num_frames, output_type="pt",
    ).frames  # fmt: skip
    assert ours.std() > 0.01, "the video shows something"
    found = (ours.transpose(1, 2) - theirs).abs().max().item()
    print(f"{name}, frames {found:.1e}")
    assert found < FRAMES


def their_pipeline(name: str, model: DiT, given: ConditionerOutput, folder: Path) -> Any:
    """Pipeline of diffusers with the same weights; prompts and images are given to it as embeddings."""
    written = write_official_transformer(folder / "official", KINDS[name], model)
    convert(written, folder / "transformer", Conversion(to="diffusers"))
    torch.save(official_tensors(some(tiny_modules().autoencoder), VAE21), folder / "Wan2.1_VAE.pth")
    convert(folder / "Wan2.1_VAE.pth", folder / "vae", Conversion(to="diffusers"))
    transformer = diffusers.WanTransformer3DModel.from_pretrained(folder / "transformer").eval()
    pipeline = diffusers.WanImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=diffusers.AutoencoderKLWan.from_pretrained(folder / "vae").eval(),
        scheduler=None,
        transformer=with_exact_times(transformer),
    )
    pipeline.scheduler = OurScheduler(UniPC())
    pipeline.encode_image = lambda image, device: given.context["image"].unflatten(1, (-1, IMAGE_ROWS))[0]
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def their_channels(judge: Any, video: VideoSize, told: Mapping[str, Tensor | None]) -> Tensor:
    images = {name: None if value is None else value * 2 - 1 for name, value in told.items()}
    size = {"height": video.height, "width": video.width, "num_frames": video.num_frames}
    _, channels = judge.prepare_latents(**images, batch_size=1, device=torch.device("cpu"), dtype=torch.float32, **size)
    return channels


def pixels(shown: InputImage) -> Tensor:
    """In [0, 1], as diffusers takes tensors."""
    return signal(shown.pixels[None]) / 2 + 0.5


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
