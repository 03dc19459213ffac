"""The embedded model that shall follow `mini`: larger videos, a sharper codec; its training goes on.

`kinoform train kinoform.mini.next:plan --recipe kinoform.mini.next:recipe` trains it.
"""

from dataclasses import replace

import torch
from torch import Tensor

from kinoform.conditions.protocols import VideoSize
from kinoform.mini import plans
from kinoform.mini.recipe import LATENT_CHANNELS, mini
from kinoform.mini.training.autoencoder_stage import AutoencoderConfig, Crops
from kinoform.mini.training.dataset import SizeShare, Videos
from kinoform.mini.training.plan import Plan
from kinoform.models.vae22 import VAE22Spec
from kinoform.recipe import Recipe
from kinoform.training.ema import EMASpec
from kinoform.training.levels import LevelSampling
from kinoform.training.optimizer import AdamSpec, MuonSpec, OptimizerSpec, Schedule
from kinoform.training.stage import TrainingSpec

FIRST = VideoSize(num_frames=17, height=64, width=64)
"""Size of the first batches: a quarter of the tokens, from which words are learnt."""

SIZES = (
    SizeShare(video=FIRST),
    SizeShare(video=VideoSize(num_frames=33, height=96, width=96), share=3.0, start=6000),
    SizeShare(video=VideoSize(num_frames=33, height=64, width=64), share=0.5, start=6000),
    SizeShare(video=VideoSize(num_frames=17, height=96, width=96), share=0.5, start=6000),
    SizeShare(video=VideoSize(num_frames=33, height=64, width=112), share=0.5, start=6000),
    SizeShare(video=VideoSize(num_frames=17, height=128, width=128), share=0.5, start=6000),
)
"""Sizes of the transformer's batches; half of those from step 6000 on are of the default size."""


def recipe() -> Recipe:
    """Return the recipe: 33 frames of 96x96 at 16 fps."""
    base = mini()
    return replace(
        base,
        name="mini-next",
        transformers=(replace(base.transformers[0], layers=7),),
        codec=VAE22Spec(
            decoder_dim=32,
            channels=LATENT_CHANNELS,
            multipliers=(1, 1, 1),
            residual_blocks=1,
            time_downsample=(True, True),
            mean=(),
            std=(),
            linear=True,
        ),
        width=96,
        height=96,
        num_frames=33,
        upscale=3,
    )


def plan() -> Plan:
    """Three stages from nothing; the transformer begins with small videos."""
    made, base = recipe(), plans.mini()
    assert isinstance(made.codec, VAE22Spec)
    videos = Videos(level=plans.WORLD, num_frames=made.num_frames, height=made.height, width=made.width, seed=20261130)
    every_size = tuple(replace(item, start=0) for item in SIZES)
    return replace(
        base,
        recipe=made,
        gate=0.97,
        autoencoder=AutoencoderConfig(
            codec=made.codec,
            videos=replace(videos, sizes=every_size),
            batch=2,
            noise=0.07,
            crops=Crops(size=VideoSize(num_frames=9, height=48, width=48)),
            precision=torch.bfloat16,
        ),
        autoencoder_training=TrainingSpec(
            schedule=Schedule(warmup=50, total=30000, hold=0.6),
            optimizer=OptimizerSpec(
                muon=MuonSpec(learning_rate=0.01, precision=torch.bfloat16),
                adam=AdamSpec(learning_rate=1e-3, betas=(0.9, 0.99)),
                hidden=inner_kernels,
            ),
            ema=EMASpec(decay=0.99),
        ),
        text=replace(base.text, videos=videos),
        transformer=replace(
            base.transformer,
            transformer=made.transformer,
            videos=replace(videos, sizes=SIZES, early_steps=2000),
            levels=LevelSampling(shift=5.0, late_shift=3.0, late_from=3000),
        ),
        transformer_training=replace(
            base.transformer_training, schedule=replace(base.transformer_training.schedule, total=30000)
        ),
    )


def inner_kernels(name: str, parameter: Tensor) -> bool:
    """Take the decoder's kernels but those at its ends and at the linear codec's pixels."""
    ends = (".conv_in.", ".conv_out.", ".conv_linear.", ".gate")
    return name.startswith("decoder.") and parameter.ndim >= 4 and not any(end in name for end in ends)
