"""Two experts on the embedded model, with random changes or after two steps of training, for videos of 5 frames."""

from dataclasses import replace
from pathlib import Path

import torch

from kinoform.loading.adapters import save_adapter
from kinoform.mini.experts_recipe import mini_experts
from kinoform.mini.training.dataset import WordSamples
from kinoform.models.dit import DiT
from kinoform.models.lora import LoRASpec, adapters_of, attach
from kinoform.recipe import Recipe
from kinoform.recipes.load import load
from kinoform.training.adapter import AdapterPlan
from kinoform.training.ema import EMASpec
from kinoform.training.levels import LevelSampling
from kinoform.training.optimizer import OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import TrainingSpec
from kinoform.world.sampling import L1

ADDRESS = "tests.support.expert_recipes:recipe"
LORA = LoRASpec(patterns=("feed_forward.*", "cross_attention.q"), rank=2)
CPU = torch.device("cpu")


def recipe() -> Recipe:
    """The recipe of `mini-experts` for 5 frames of 32x32."""
    return replace(mini_experts(), num_frames=5, width=32, height=32)


def plan() -> AdapterPlan:
    """Two steps of each expert."""
    return AdapterPlan(
        name="experts",
        base="mini",
        recipe=recipe(),
        lora=LORA,
        samples=WordSamples(level=L1, seed=1),
        levels=LevelSampling(shift=8.0),
        training=TrainingSpec(
            schedule=Schedule(warmup=0, total=2),
            optimizer=OptimizerSpec(hidden=no_matrix),
            ema=EMASpec(decay=0.5, every=1),
        ),
        batch=4,
    )


def changed(base: DiT, seed: int) -> DiT:
    """The transformer with random changes called `experts`, which are felt and do not destroy its videos."""
    generator = torch.Generator().manual_seed(seed)
    model = attach(base, LORA, name="experts", generator=generator)
    for adapter in adapters_of(model)["experts"].values():
        adapter.up.data = 0.02 * torch.randn(adapter.up.shape, generator=generator)
    return model


def write_experts(path: Path) -> Path:
    """Changes with the seeds 1 and 2, as `kinoform train` would have written them."""
    parts = load("mini", device="cpu").parts
    base = parts.transformer(torch.float32, CPU)
    save_adapter(
        path, [changed(base, seed) for seed in (1, 2)], None, name="experts", base="mini",
        base_hash=parts.fingerprint(), recipe=ADDRESS, made={}, dtype=torch.float32,
    )  # fmt: skip
    return path
