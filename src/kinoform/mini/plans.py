"""How the embedded model is trained from nothing: `kinoform train mini`."""

from dataclasses import replace

import torch

from kinoform.mini.recipe import mini
from kinoform.mini.training.autoencoder_stage import AutoencoderConfig
from kinoform.mini.training.dataset import Videos
from kinoform.mini.training.plan import Plan
from kinoform.mini.training.text_stage import TextConfig
from kinoform.mini.training.transformer_stage import TransformerConfig
from kinoform.models.vae import VAESpec
from kinoform.training.ema import AverageSpec
from kinoform.training.objective import LevelSampling
from kinoform.training.optimizer import AdamSpec, MuonSpec, OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import TrainingSpec
from kinoform.world.caption import vocabulary
from kinoform.world.sampling import Level

WORLD = Level(textured=0.3, sized=0.3, panned=0.25, paired=0.25)
"""Everything of L3, more than a third of it as simple as L1."""


def in_blocks(name: str, parameter: object) -> bool:
    """The hidden matrices of the transformer, which Muon takes; AdamW has the rest, the lesson's probe too."""
    return name.startswith("model.blocks.") and name.endswith(".weight") and getattr(parameter, "ndim", 0) == 2


def inner_convolutions(name: str, parameter: object) -> bool:
    """The decoder's kernels between its first and its last layer."""
    return ".conv_" not in name and getattr(parameter, "ndim", 0) >= 4 and name.startswith("decoder.")


def plan() -> Plan:
    """How mini is trained: two hours of one core for the transformer, minutes for the rest."""
    recipe = mini()
    assert isinstance(recipe.codec, VAESpec)
    videos = Videos(level=WORLD, num_frames=recipe.num_frames, height=recipe.height, width=recipe.width, seed=20261120)
    return Plan(
        recipe=recipe,
        words=vocabulary(),
        autoencoder=AutoencoderConfig(codec=recipe.codec, videos=videos),
        autoencoder_training=TrainingSpec(
            schedule=Schedule(warmup=20, total=120, hold=0.5),
            optimizer=OptimizerSpec(
                muon=MuonSpec(learning_rate=0.02),
                adam=AdamSpec(learning_rate=1e-3),
                hidden=inner_convolutions,
            ),
            average=AverageSpec(decay=0.98, every=2),
        ),
        text=TextConfig(text=recipe.text, videos=videos),
        text_training=TrainingSpec(
            schedule=Schedule(warmup=20, total=1500),
            optimizer=OptimizerSpec(adam=AdamSpec(learning_rate=1e-3), hidden=no_matrix),
        ),
        transformer=TransformerConfig(
            transformer=recipe.transformer,
            videos=replace(videos, early_steps=2000),
            levels=LevelSampling(shift=5.0, late_shift=2.5, late_from=3000),
            negative_prompt=recipe.negative_prompt,
            precision=torch.bfloat16,
        ),
        transformer_training=TrainingSpec(
            schedule=Schedule(warmup=100, total=14000, hold=0.65),
            optimizer=OptimizerSpec(
                muon=MuonSpec(learning_rate=0.03, precision=torch.bfloat16),
                adam=AdamSpec(learning_rate=1.5e-3),
                hidden=in_blocks,
            ),
        ),
    )
