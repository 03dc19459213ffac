"""The released Wan 2.2 models, with the defaults of the official command line, and VACE-Fun with those of its own."""

from dataclasses import replace

from kinoform.conditions.first_frame import FirstFrame
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.video_to_video import StartVideo
from kinoform.models.dit import DiTSpec
from kinoform.models.vae22 import VAE22Spec
from kinoform.recipe import Recipe
from kinoform.recipes.wan21 import LARGE, MASK_AND_LATENTS, NEGATIVE, t2v_14b, vace_14b

TEXT_BOUNDARY, IMAGE_BOUNDARY = 0.875, 0.9
"""Share of the timesteps from which on the expert of high noise makes a step."""


def t2v_a14b() -> Recipe:
    """Return the recipe of T2V-A14B: two experts of the size of T2V-14B, of high noise from timestep 875 on.

    1280x720, 81 frames at 16 fps, 40 steps of UniPC, shift 12, guidance 4 of high noise and 3 of low noise.
    """
    return replace(
        t2v_14b(),
        name="t2v-a14b",
        transformers=(LARGE, LARGE),
        boundaries=(TEXT_BOUNDARY,),
        steps=40,
        shift=12.0,
        guidance_scale={"high": 4.0, "low": 3.0},
    )


def i2v_a14b() -> Recipe:
    """Return the recipe of I2V-A14B: from a first frame, in its proportions and the area of 1280x720.

    Two experts without an image encoder, of high noise from timestep 900 on; 40 steps, shift 5 at every size, guidance
    3.5.
    """
    expert = replace(LARGE, in_channels=LARGE.out_channels + MASK_AND_LATENTS)
    return Recipe(
        name="i2v-a14b",
        transformers=(expert, expert),
        boundaries=(IMAGE_BOUNDARY,),
        steps=40,
        shift=5.0,
        guidance_scale=3.5,
        negative_prompt=NEGATIVE,
        width=1280,
        height=720,
        conditioners=(KnownFrames(),),
    )


def ti2v_5b() -> Recipe:
    """Return the recipe of TI2V-5B: from words alone, or from a first frame in nearly its proportions.

    1280x704 (or 704x1280), 121 frames at 24 fps, 50 steps of UniPC, shift 5, guidance 5; one transformer.
    """
    return Recipe(
        name="ti2v-5b",
        transformers=(DiTSpec(dim=3072, ffn_dim=14336, heads=24, layers=30, in_channels=48, out_channels=48),),
        codec=VAE22Spec(),
        negative_prompt=NEGATIVE,
        width=1280,
        height=704,
        num_frames=121,
        fps=24.0,
        conditioners=(FirstFrame(), StartVideo()),
    )


def vace_a14b() -> Recipe:
    """Return the recipe of VACE-Fun-A14B: VACE-14B's blocks on both experts of T2V-A14B; 50 steps, shift 12.

    Guidance is 5 for both. Source: the examples of VideoX-Fun, by which the model was released.
    """
    blocks = vace_14b()
    return replace(
        blocks, name="vace-a14b", transformers=blocks.transformers * 2, boundaries=(TEXT_BOUNDARY,), shift=12.0
    )
