"""Makes one film with random weights in a process of its own: python measured_film.py KIND, a key of FILMS.

Prints, as JSON, the predicted bytes of the worst stage and the most that this process had in memory (VmHWM).
"""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from kinoform.conditions.image_tokens import ImageTokens
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.references import ReferenceTokens
from kinoform.conditions.vace import Vace
from kinoform.media.material import Clip, Picture
from kinoform.models.context import ImageStream, TextStream
from kinoform.models.dit import DiTSpec
from kinoform.models.factorized import FactorizedBlock
from kinoform.models.guests import ReferenceGuests
from kinoform.models.side_blocks import SideBlocks
from kinoform.models.text import TextSpec
from kinoform.models.tokenizer import Piece, Tokenizer
from kinoform.models.vae import VAESpec
from kinoform.models.vision import VisionSpec
from kinoform.ops.memory import release_memory
from kinoform.pipelines.fit import sizes_of, work_of
from kinoform.pipelines.generate import Machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.plan.memory import peaks
from kinoform.recipe import Recipe
from kinoform.weights.parts import Parts

Module = TypeVar("Module", bound=nn.Module)

ROWS = 16
TEXT = TextStream(width=64, rows=ROWS)
VISION = VisionSpec(image=56, dim=64, heads=2, layers=3, dim_ffn=128)
BASE = Recipe(
    name="medium",
    transformer=DiTSpec(dim=768, ffn_dim=1024, heads=6, layers=1, context=(TEXT,)),
    codec=VAESpec(dim=16, multipliers=(1, 1), residual_blocks=1, time_downsample=(True,)),
    text=TextSpec(vocab=8, dim=64, dim_attention=64, dim_ffn=128, heads=2, layers=1, length=ROWS),
    steps=1,
    width=96,
    height=96,
    num_frames=13,
)
SEEING = replace(
    BASE,
    transformer=replace(BASE.transformer, in_channels=16 + 2 + 16, context=(TEXT, ImageStream(width=VISION.dim))),
    image=VISION,
    conditioners=(KnownFrames(), ImageTokens()),
)
FOLLOWING = replace(
    BASE,
    transformer=replace(BASE.transformer, branches=(SideBlocks(layers=(0,), channels=2 * 16 + 2 * 2),)),
    conditioners=(Vace(),),
)
FACTORIZED = replace(BASE, transformer=replace(BASE.transformer, block=FactorizedBlock()))
INVITING = replace(
    FACTORIZED,
    transformer=replace(FACTORIZED.transformer, branches=(ReferenceGuests(),)),
    conditioners=(ReferenceTokens(),),
)


def picture(draw: np.random.Generator) -> Picture:
    return Picture(pixels=draw.integers(0, 256, (96, 96, 3), dtype=np.uint8))


def clip(draw: np.random.Generator) -> Clip:
    return Clip(frames=draw.integers(0, 256, (13, 96, 96, 3), dtype=np.uint8))


FILMS: dict[str, tuple[Recipe, Callable[[np.random.Generator], Inputs]]] = {
    "text": (BASE, lambda draw: Inputs()),
    "image": (SEEING, lambda draw: Inputs(frames={0: picture(draw)})),
    "factorized": (FACTORIZED, lambda draw: Inputs()),
    "guests": (INVITING, lambda draw: Inputs(references=tuple(picture(draw) for _ in range(4)))),
    "control": (FOLLOWING, lambda draw: Inputs(film=clip(draw), references=(picture(draw),))),
}


def pipeline_of(recipe: Recipe) -> Pipeline:
    parts = Parts(
        tokenizer=lambda: Tokenizer(split=lambda text: [Piece(3, text)], pad=0, end=1, unknown=2),
        text_encoder=lambda dtype, device: drawn(recipe.text.build),
        transformer=lambda dtype, device: drawn(recipe.transformer.build),
        codec=lambda device: drawn(recipe.codec.build),
        image_encoder=lambda dtype, device: drawn(VISION.build),
        transformer_spec=recipe.transformer,
        codec_spec=recipe.codec,
        text_spec=recipe.text,
        image_spec=recipe.image,
        fingerprint=lambda: "",
    )
    machine = Machine(device=torch.device("cpu"), dtype=torch.float32)
    return Pipeline(recipe=recipe, parts=parts, machine=machine)


def drawn(build: Callable[[], Module]) -> Module:
    release_memory()  # as every part that is read from a file does first
    module, generator = build(), torch.Generator().manual_seed(1)
    for parameter in module.requires_grad_(False).parameters():
        parameter.normal_(std=0.02, generator=generator)
    return module


def high_water() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def measure(kind: str) -> dict[str, Any]:
    recipe, inputs = FILMS[kind]
    pipeline = pipeline_of(recipe)
    asked = pipeline.request("a ball", seed=1, inputs=inputs(np.random.default_rng(1)))
    found = peaks(sizes_of(pipeline.parts), work_of(asked), torch.float32, "cpu")
    seen: dict[str, int] = {"start": high_water()}

    def tell(progress: Any) -> None:
        seen[progress.stage] = high_water()

    pipeline.frames(next(pipeline.latents([asked], tell)), tell)
    worst = max(found, key=lambda peak: peak.total)
    stages = {peak.stage: peak.total for peak in found}
    return {"bound_by": worst.stage, "predicted": worst.total, "measured": high_water(), "stages": stages, "seen": seen}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure(sys.argv[1])))
