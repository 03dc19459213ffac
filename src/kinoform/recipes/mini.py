"""The embedded model: small enough to train on a laptop, built from the same parts as the released ones.

    kinoform train mini

trains it from nothing on the procedural world. What was tried and what it cost: docs/mini.md.
"""

from kinoform.models.context import TextStream
from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec

from kinoform.models.vae import VAESpec
from kinoform.recipe import Recipe
from kinoform.solvers.unipc import UniPC
from kinoform.training.autoencoder import AutoencoderConfig
from kinoform.training.average import AverageSpec
from kinoform.training.films import Films
from kinoform.training.objective import LevelSampling
from kinoform.training.optimizer import AdamSpec, MuonSpec, OptimizerSpec, Schedule, no_matrix
from kinoform.training.plan import Plan
from kinoform.training.stage import TrainingSpec
from kinoform.training.text import TextConfig
from kinoform.training.transformer import TransformerConfig
from kinoform.world.caption import vocabulary
from kinoform.world.sampling import L1

TEXT_WIDTH, TEXT_ROWS = 128, 32
LATENT_CHANNELS = 24
"""With 16, Wan's number, a linear codec loses the shape in 12 of 100 films of this size; with 24 in 7."""


def mini() -> Recipe:
    """17 frames of 64x64 at 16 fps, shown four times larger; 4 million parameters."""
    return Recipe(
        name="mini",
        transformer=DiTSpec(
            dim=192,
            ffn_dim=768,
            heads=4,
            layers=6,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            context=(TextStream(width=TEXT_WIDTH, rows=TEXT_ROWS),),
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
        shift=5.0,
        guidance=3.0,
        width=64,
        height=64,
        num_frames=17,
        fps=16.0,
        upscale=4,
    )


def in_blocks(name: str, parameter: object) -> bool:
    """The hidden matrices of a transformer, which Muon takes; AdamW has the rest."""
    return name.startswith("blocks.") and name.endswith(".weight") and getattr(parameter, "ndim", 0) == 2


def inner_convolutions(name: str, parameter: object) -> bool:
    """The decoder's kernels between its first and its last layer."""
    return ".conv_" not in name and getattr(parameter, "ndim", 0) >= 4 and name.startswith("decoder.")


def plan() -> Plan:
    """How mini is trained: an hour and a half of one core for the transformer, less for the rest."""
    recipe = mini()
    films = Films(
        level=L1, num_frames=recipe.num_frames, height=recipe.height, width=recipe.width, seed=20261120
    )
    return Plan(
        recipe=recipe,
        words=vocabulary(),
        autoencoder=AutoencoderConfig(codec=recipe.codec, films=films),
        autoencoder_training=TrainingSpec(
            schedule=Schedule(warmup=20, total=1200, hold=0.5),
            optimizer=OptimizerSpec(
                muon=MuonSpec(learning_rate=0.02),
                adam=AdamSpec(learning_rate=1e-3),
                hidden=inner_convolutions,
            ),
            average=AverageSpec(decay=0.98, every=2),
        ),
        text=TextConfig(text=recipe.text, films=films),
        text_training=TrainingSpec(
            schedule=Schedule(warmup=20, total=600),
            optimizer=OptimizerSpec(adam=AdamSpec(learning_rate=1e-3), hidden=no_matrix),
        ),
        transformer=TransformerConfig(
            transformer=recipe.transformer,
            films=films,
            levels=LevelSampling(shift=5.0),
            negative_prompt=recipe.negative_prompt,
        ),
        transformer_training=TrainingSpec(
            schedule=Schedule(warmup=100, total=3000),
            optimizer=OptimizerSpec(
                muon=MuonSpec(learning_rate=0.02), adam=AdamSpec(learning_rate=1e-3), hidden=in_blocks
            ),
        ),
    )
