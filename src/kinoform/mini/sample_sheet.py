"""Videos of a transformer that is still in training, on one image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from kinoform.media.contact_sheet import save_contact_sheet
from kinoform.media.video import Video
from kinoform.models.dit import DiT
from kinoform.pipelines.experts import in_memory
from kinoform.pipelines.generate import decode, denoise, noise_of
from kinoform.pipelines.request import request
from kinoform.recipe import Recipe
from kinoform.training.frozen import FrozenParts

PROMPTS = (
    "a red ball bounces on a blue background",
    "a white star spins on a green background",
    "a yellow square moves left on a purple background",
    "a black ring grows on a pink background",
)


def show_videos(recipe: Recipe) -> Callable[[DiT, FrozenParts, Path], None]:
    """A picklable function that draws PROMPTS, one video a row, seeds 0 to 3."""
    return partial(_show, recipe)


def _show(recipe: Recipe, model: DiT, frozen: FrozenParts, path: Path) -> None:
    rows = frozen.rows([*PROMPTS, recipe.negative_prompt])
    videos = []
    for seed, prompt in enumerate(PROMPTS):
        asked = request(recipe, prompt, seed)
        pair = (rows[seed : seed + 1], rows[-1:])
        latents = denoise(in_memory(model), asked, pair, noise_of(recipe.codec, asked), lambda progress: None)
        videos.append(decode(frozen.codec, latents, torch.device("cpu"), lambda progress: None)[::2])
    frames = np.concatenate(videos)
    caption = {"prompt": " / ".join(PROMPTS)}
    save_contact_sheet(Video(frames=frames, fps=recipe.fps, params=caption), path, force=True)
