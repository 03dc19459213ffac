"""Recipe of the embedded model: small enough to train on a laptop, built from the same parts as the released ones.

The plan of its training is in mini/plans.py; docs/mini.md has its figures and what was tried.
"""

from kinoform.conditions.video_to_video import StartVideo
from kinoform.models.context import TextContext
from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec
from kinoform.models.vae import VAESpec
from kinoform.recipe import Recipe
from kinoform.solvers.unipc import UniPC
from kinoform.world.caption import vocabulary

TEXT_WIDTH, TEXT_ROWS = 128, 32
LATENT_CHANNELS = 32
"""Channels; with 16, Wan's number, a linear codec leaves 78 % of such L1 videos wholly readable (docs/mini.md)."""

WORLD = "one or two coloured shapes that move over a plain, striped or checkered background"


def mini() -> Recipe:
    """Return the recipe of `mini`: 17 frames of 64x64 at 16 fps, shown four times larger; 5 million parameters."""
    return Recipe(
        name="mini",
        transformers=(
            DiTSpec(
                dim=192,
                ffn_dim=768,
                heads=4,
                layers=6,
                skip=True,
                in_channels=LATENT_CHANNELS,
                out_channels=LATENT_CHANNELS,
                context=(TextContext(width=TEXT_WIDTH, length=TEXT_ROWS),),
            ),
        ),
        codec=VAESpec(
            dim=8,
            channels=LATENT_CHANNELS,
            residual_blocks=1,
            mean=(),
            std=(),
            shortcut=True,
            linear_encoder=True,
        ),
        text=TextSpec(
            vocab=len(vocabulary()) + 3,  # and pad, end, unknown
            dim=TEXT_WIDTH,
            dim_attention=TEXT_WIDTH,
            dim_ffn=2 * TEXT_WIDTH,
            heads=4,
            layers=2,
            max_distance=32,
            length=TEXT_ROWS,
        ),
        solver=UniPC(),
        steps=16,
        shift=8.0,
        guidance_scale=2.5,
        width=64,
        height=64,
        num_frames=17,
        fps=16.0,
        upscale=4,
        fast_steps=8,
        conditioners=(StartVideo(),),
        world=WORLD,
    )
