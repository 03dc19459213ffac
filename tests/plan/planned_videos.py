"""Videos of random models, one for each kind of thing that takes memory, small enough for a test to make."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from kinoform.conditions.first_frame import FirstFrame
from kinoform.conditions.image_tokens import ImageTokens
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import NOTHING, ConditionerOutput
from kinoform.conditions.references import InContextReferences
from kinoform.conditions.standard_inputs import FRAMES, REFERENCE_IMAGES, VIDEO
from kinoform.conditions.vace import Vace
from kinoform.loading.parts import Parts
from kinoform.media.types import InputImage, InputVideo
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import DiT, DiTSpec, cast_weights
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.models.in_context import InContextImages
from kinoform.models.text import TextSpec
from kinoform.models.tokenizer import Piece, Tokenizer
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.models.vae import VAE, VAESpec
from kinoform.models.vision import VisionSpec
from kinoform.ops.dry_run import Kernels
from kinoform.pipelines.machine import Machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.plan.evaluations import Asked, Evaluations
from kinoform.plan.transformer import DenoiseRun, measured_transformer
from kinoform.plan.workload import Sizes
from kinoform.recipe import Recipe
from kinoform.solvers.predictions import NEGATIVE, POSITIVE
from tests.support.narrowing import of_type

Module = TypeVar("Module", bound=nn.Module)
PLAIN_KERNELS = Kernels(parts=False, ordered=False)


def sizes_of(recipe: Recipe, **changes: Any) -> Sizes:
    """Sizes of a recipe's parts, those of its transformers changed."""
    transformers = tuple(replace(spec, **changes) for spec in recipe.transformers)
    return Sizes(transformers=transformers, codec=recipe.codec, text=recipe.text, image=recipe.image)


def guided(pairs: int, singles: int) -> Asked:
    """So many velocities under both prompts, and so many under the prompt alone."""
    both, alone = (POSITIVE, NEGATIVE), (POSITIVE,)
    prepared = {POSITIVE: 1} | ({NEGATIVE: 1} if pairs else {})
    return Asked(prompt=Evaluations(prepared=prepared, together={both: pairs, alone: singles}))


def run_of(spec: DiTSpec, latents: tuple[int, int, int], output: ConditionerOutput = NOTHING) -> DenoiseRun:
    """The transformer under a prompt that fills its text source, and under the negative prompt."""
    text = next(each for each in spec.context if isinstance(each, TextContext))
    rows = torch.empty(1, text.length, text.width, device="meta")
    return measured_transformer(spec).run(latents, rows, lambda: output, guided(1, 1), PLAIN_KERNELS)


ROWS = 16
TEXT = TextContext(width=64, length=ROWS)
VISION = VisionSpec(image=56, dim=64, heads=2, layers=3, dim_ffn=128)
BASE = Recipe(
    name="small",
    transformers=(DiTSpec(dim=384, ffn_dim=512, heads=4, layers=3, context=(TEXT,)),),
    codec=VAESpec(dim=16, multipliers=(1, 1), residual_blocks=1, time_downsample=(True,)),
    text=TextSpec(vocab=8, dim=64, dim_attention=64, dim_ffn=128, heads=2, layers=1, length=ROWS),
    steps=2,
    width=64,
    height=64,
    num_frames=9,
)
SEEING = replace(
    BASE,
    transformers=(replace(BASE.transformer, in_channels=16 + 2 + 16, context=(TEXT, ImageContext(width=VISION.dim))),),
    image=VISION,
    conditioners=(KnownFrames(), ImageTokens()),
)
FOLLOWING = replace(
    BASE,
    transformers=(replace(BASE.transformer, branches=(VaceBlocks(layers=(0,), channels=2 * 16 + 2 * 2),)),),
    conditioners=(Vace(),),
)
FACTORIZED = replace(BASE, transformers=(replace(BASE.transformer, block=FactorizedBlock()),))
INVITING = replace(
    FACTORIZED,
    transformers=(replace(FACTORIZED.transformer, branches=(InContextImages(),)),),
    conditioners=(InContextReferences(),),
)


def image(draw: np.random.Generator) -> InputImage:
    return InputImage(pixels=draw.integers(0, 256, (64, 64, 3), dtype=np.uint8))


def clip(draw: np.random.Generator) -> InputVideo:
    return InputVideo(frames=draw.integers(0, 256, (9, 64, 64, 3), dtype=np.uint8))


VIDEOS: dict[str, tuple[Recipe, Callable[[np.random.Generator], Inputs]]] = {
    "text": (BASE, lambda draw: Inputs()),
    "image": (SEEING, lambda draw: Inputs({FRAMES: {0: image(draw)}})),
    "clean first frame": (replace(BASE, conditioners=(FirstFrame(),)), lambda draw: Inputs({FRAMES: {0: image(draw)}})),
    "factorized": (FACTORIZED, lambda draw: Inputs()),
    "guests": (INVITING, lambda draw: Inputs({REFERENCE_IMAGES: tuple(image(draw) for _ in range(4))})),
    "control": (FOLLOWING, lambda draw: Inputs({VIDEO: clip(draw), REFERENCE_IMAGES: (image(draw),)})),
}


def pipeline_of(recipe: Recipe, dtype: torch.dtype) -> Pipeline:
    parts = Parts(
        tokenizer=lambda: Tokenizer(split=lambda text: [Piece(3, text)], pad=0, end=1, unknown=2),
        text_encoder=lambda dtype, device: drawn(recipe.text.build).to(dtype),
        transformers=(lambda dtype, device: of_type(DiT, cast_weights(drawn(recipe.transformer.build), dtype)),),
        codec=lambda device: drawn(lambda: of_type(VAE, recipe.codec.build())),
        image_encoder=lambda dtype, device: drawn(VISION.build),
        transformer_specs=(recipe.transformer,),
        codec_spec=recipe.codec,
        text_spec=recipe.text,
        image_spec=recipe.image,
        fingerprint=lambda: "",
    )
    machine = Machine(device=torch.device("cpu"), dtype=dtype)
    return Pipeline(recipe=recipe, parts=parts, machine=machine)


def drawn(build: Callable[[], Module]) -> Module:
    module, generator = build(), torch.Generator().manual_seed(1)
    for parameter in module.requires_grad_(False).parameters():
        parameter.normal_(std=0.02, generator=generator)
    return module
