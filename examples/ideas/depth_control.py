"""An idea in one file: a depth film steers what is made, as latents on input channels that are added.

    kinoform generate "a red ball moves left" --recipe depth_control:recipe --film depth.mp4

From this folder; from the root of the repository it is `--recipe examples.ideas.depth_control:recipe`. Without a
film, and as long as nothing has been trained, the films are those of the model itself: the added slice of the patch
embedding is zero. `recipe` widens the embedded model, `wan` the 1.3B one (`--model t2v-1.3b`).

What learns is the added slice (`LEARNS`) alone, or beside low-rank adapters (`ADAPTERS`); see
`Additions.learning`. One file then holds both (`weights.adapter_saving.save_adapter`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from kinoform.conditions.clips import clip_chunks
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.ports import Encoders, FilmSize, Given, Units
from kinoform.errors import UsageError
from kinoform.media.material import Clip
from kinoform.models.codec import encode_film, latent_size
from kinoform.models.lora import LoRASpec
from kinoform.recipe import Recipe
from kinoform.recipes.mini import mini
from kinoform.recipes.wan21 import t2v_1_3b
from kinoform.weights.additions import Additions

NAME = "depth"
LEARNS = ("patch_embedding.weight",)
"""Parameters, as shell patterns; `Additions.let_learn` leaves the channels of the base without gradient."""

ADAPTERS = LoRASpec(patterns=("self_attention.*", "feed_forward.*"), rank=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthFilm:
    """Latents of a grey film, near is white, in the size and length of the film to be made; zeros without one."""

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"film"})

    def size(self, inputs: Inputs, asked: FilmSize, units: Units) -> FilmSize:
        return asked

    def check(self, inputs: Inputs, film: FilmSize) -> None:
        """Raises UsageError for a depth film that is shorter than the film to be made."""
        clip = inputs.film
        if clip is not None and len(clip.frames) < film.num_frames:
            there, wanted = len(clip.frames), film.num_frames
            raise UsageError(f"{clip.name} has {there} frames, and {wanted} are to be made; ask for fewer")

    @torch.no_grad()
    def give(self, inputs: Inputs, film: FilmSize, encoders: Encoders) -> Given:
        codec = encoders.codec()
        if inputs.film is None:
            frames, height, width = latent_size(codec, film.num_frames, film.height, film.width)
            return Given(channels=torch.zeros(1, codec.channels, frames, height, width, device=encoders.device))
        chunks = clip_chunks(grey(inputs.film), film, codec.stride[0])
        return Given(channels=encode_film(codec, (chunk.to(encoders.device) for chunk in chunks)))


def grey(clip: Clip) -> Clip:
    """The mean of red, green and blue, in all three."""
    mean = clip.frames.mean(axis=-1, keepdims=True).round().astype(np.uint8)
    return replace(clip, frames=np.broadcast_to(mean, clip.frames.shape))


def put_onto(base: Recipe) -> Recipe:
    """Any model, with as many channels more as its codec makes."""
    added = Additions(channels={NAME: base.codec.channels})
    return replace(base, name=f"{base.name}-{NAME}", conditioners=(DepthFilm(),), additions=added)


def recipe() -> Recipe:
    return put_onto(mini())


def wan() -> Recipe:
    return put_onto(t2v_1_3b())
