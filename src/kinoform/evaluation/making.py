"""Videos to be judged: of a model, and of its codec alone."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8

from kinoform.media.video import Video
from kinoform.models.codec import to_signed, to_uint8
from kinoform.pipelines.pipeline import Pipeline

EXACT = 100.0
"""The PSNR in dB that stands for frames without error, whose PSNR is infinite and not JSON."""


def video_of(pipeline: Pipeline, prompt: str, seed: int, **changes: object) -> Video:
    """`changes` of the recipe's defaults go into the request."""
    request = pipeline.request(prompt, seed=seed, **changes)
    latents = next(pipeline.latents([request], lambda progress: None))
    return pipeline.video(request, latents, lambda progress: None)


@torch.inference_mode()
def redrawn(pipeline: Pipeline, frames: UInt8[np.ndarray, "f h w 3"]) -> UInt8[np.ndarray, "f h w 3"]:
    """A rendered video, encoded and decoded: what the codec alone can show."""
    codec = pipeline.parts.codec(pipeline.machine.device)
    latents, _ = codec.encode(to_signed(frames[None]).to(pipeline.machine.device))
    return to_uint8(codec.decode(latents)[0][0])
