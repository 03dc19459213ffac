"""A model of kinoform's own kind with random weights, small enough to make a video in milliseconds."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import torch
from torch import nn

from kinoform.conditions.video_to_video import StartVideo
from kinoform.families.identify import MANIFEST
from kinoform.loading.own import Modules, save_own
from kinoform.models import text
from kinoform.models.context import TextContext
from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec
from kinoform.models.tokenizer import build_word_tokenizer
from kinoform.models.vae import VAESpec
from kinoform.pipelines.pipeline import Pipeline
from kinoform.recipe import Recipe
from kinoform.recipes.load import load
from kinoform.solvers.by_expert import ByExpert
from tests.support.narrowing import of_type

WORDS = ("a", "red", "blue", "ball", "cat", "moves", "left", "ugly", ".")
ROWS = 8
ADDRESS = "tests.support.tiny_recipe:tiny"


def tiny() -> Recipe:
    """3 frames of 16x16, shown twice as large; frames 1 + 2n, sides multiples of 4."""
    return Recipe(
        name="tiny",
        transformers=(DiTSpec(
            dim=24, ffn_dim=48, heads=2, layers=1, in_channels=4, out_channels=4, frequency_width=16,
            context=(TextContext(width=16, length=ROWS),),
        ),),
        codec=VAESpec(
            dim=4, channels=4, multipliers=(1, 1), residual_blocks=1, time_downsample=(True,), mean=(), std=(),
            shortcut=True, linear_encoder=True,
        ),
        text=TextSpec(
            vocab=3 + len(WORDS), dim=16, dim_attention=16, dim_ffn=32, heads=2, layers=1, buckets=8,
            max_distance=16, length=ROWS,
        ),
        steps=3, fast_steps=2,
        shift=3.0,
        guidance_scale=4.0,
        negative_prompt="ugly",
        width=16,
        height=16,
        num_frames=3,
        fps=8.0,
        upscale=2,
    )  # fmt: skip


def tiny_of_videos() -> Recipe:
    """The same, which may also begin from a video."""
    return replace(tiny(), conditioners=(StartVideo(),))


def by_expert(high: float, low: float) -> ByExpert:
    """Numbers of the two transformers of `tiny_of_two`."""
    return ByExpert(numbers=(("high", float(high)), ("low", float(low))))


def tiny_of_two() -> Recipe:
    """The same with two transformers, of which the first makes 4 of 6 steps."""
    return replace(
        tiny(),
        transformers=2 * tiny().transformers,
        boundaries=(0.6,),
        steps=6,
        guidance_scale=by_expert(4.0, 2.0),
    )


def write_tiny_of_two(folder: Path) -> Path:
    """The transformers of two folders of `write_tiny_folder`, with seeds 0 and 1, in one folder."""
    first, other = write_tiny_folder(folder, seed=0), write_tiny_folder(folder.with_name("other"), seed=1)
    copyfile(other / "transformer.safetensors", first / "transformer_2.safetensors")
    manifest, theirs = (json.loads((place / MANIFEST).read_text(encoding="utf-8")) for place in (first, other))
    manifest["parts"]["transformer_2.safetensors"] = theirs["parts"]["transformer.safetensors"]
    (first / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return first


def write_tiny_folder(folder: Path, *, seed: int = 0) -> Path:
    """Random weights under which prompt, level and noise all show in the video."""
    made, generator = tiny(), torch.Generator().manual_seed(seed)
    encoder = made.text.build()
    text.initialise(encoder, generator)
    modules = Modules(
        transformer=_drawn(made.transformer.build(), generator),
        autoencoder=_drawn(of_type(nn.Module, made.codec.build()), generator),
        text_encoder=encoder,
    )
    words = build_word_tokenizer(WORDS).to_str()
    save_own(folder, modules, tokenizer_json=words, recipe=ADDRESS, made={}, dtype=torch.float32)
    return folder


def tiny_pipeline(folder: Path, **changes: object) -> Pipeline:
    """The pipeline of a folder; `changes` are fields of the recipe."""
    pipeline = load(folder, recipe=ADDRESS, device="cpu")
    return replace(pipeline, recipe=replace(pipeline.recipe, **changes))


def _drawn(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Unit gain for products, about 1 for scales, small for what is added."""
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            noise *= parameter[0].numel() ** -0.5
        else:
            noise = 0.1 * noise + name.endswith(("weight", "gamma"))
        parameter.data = noise
    return module
