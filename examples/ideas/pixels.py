"""A model of pixels in one file: no autoencoder, tokens are volumes of video, and its blocks are factorized.

    kinoform train examples.ideas.pixels:plan --recipe examples.ideas.pixels:recipe
    kinoform generate "a red ball on a white background" --model runs/pixels/model --recipe examples.ideas.pixels:recipe

From the root of the repository; from this folder it is `pixels:plan` and `pixels:recipe`.

The codec is the identity: what is denoised are the pixels themselves, in [-1, 1]. The transformer cuts them into
volumes of 4 frames and 8 x 8 pixels, so a video of T frames has T/4 * H/8 * W/8 tokens: 64 here, each of them
4 * 8 * 8 * 3 = 768 numbers, which one matrix embeds and another one gives back. Frames come in fours, sides in
eights; other sizes are refused with the nearest that are legal.

Each block attends within frames, reads the caption, attends within places, and ends with a feed-forward. `skip`
carries the noise past the narrow blocks, which no token could hold: 768 numbers against a width of 96.

It is a toy, to be read and changed: nothing is lost in an autoencoder, and the transformer pays for it, having to
learn what every pixel looks like. The training takes 35 TFLOP in 3000 steps; what it makes stands in the run's folder,
in `transformer/samples`, every 500 steps. At the end colours are the prompt's, outlines
are blurred.
"""

from kinoform.api import (
    AdamSpec,
    DiTSpec,
    FactorizedBlock,
    IdentityCodec,
    LevelSampling,
    OptimizerSpec,
    Recipe,
    Schedule,
    TextContext,
    TextSpec,
    TrainingSpec,
    no_matrix,
)
from kinoform.mini import L1, Plan, ProbeLoss, TextConfig, TransformerConfig, Videos, vocabulary

VOLUME = (4, 8, 8)
"""Frames, rows and columns of a token."""

TEXT_WIDTH, TEXT_ROWS = 64, 32


def recipe() -> Recipe:
    """16 frames of 32x32, shown eight times larger; a million parameters."""
    return Recipe(
        name="pixels",
        transformers=(
            DiTSpec(
                dim=96,
                ffn_dim=384,
                heads=4,
                layers=4,
                in_channels=3,
                out_channels=3,
                patch=VOLUME,
                skip=True,
                context=(TextContext(width=TEXT_WIDTH, length=TEXT_ROWS),),
                block=FactorizedBlock(),
            ),
        ),
        codec=IdentityCodec(),
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
        steps=16,
        shift=3.0,
        guidance_scale=2.5,
        width=32,
        height=32,
        num_frames=16,
        fps=16.0,
        upscale=8,
    )


def plan() -> Plan:
    """A text encoder and a transformer, one after the other."""
    made = recipe()
    videos = Videos(level=L1, num_frames=made.num_frames, height=made.height, width=made.width)
    optimizer = OptimizerSpec(adam=AdamSpec(learning_rate=1e-3), hidden=no_matrix)
    return Plan(
        recipe=made,
        words=vocabulary(),
        text=TextConfig(text=made.text, videos=videos),
        text_training=TrainingSpec(schedule=Schedule(warmup=20, total=1000), optimizer=optimizer),
        transformer=TransformerConfig(
            transformer=made.transformer,
            videos=videos,
            levels=LevelSampling(shift=3.0),
            negative_prompt=made.negative_prompt,
            probe_loss=ProbeLoss(layer=1),
        ),
        transformer_training=TrainingSpec(schedule=Schedule(warmup=50, total=3000, hold=0.65), optimizer=optimizer),
    )
