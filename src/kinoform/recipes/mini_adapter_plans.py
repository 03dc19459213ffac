"""How the adapters of the embedded model are trained: `kinoform train mini:frames`, `mini:vace`, `mini:reference`."""

import torch

from kinoform.models.lora import BLOCKS, LoRASpec
from kinoform.recipe import Recipe
from kinoform.recipes import mini_adapters
from kinoform.recipes.mini_training import WORLD
from kinoform.training.adapter import AdapterPlan
from kinoform.training.adapter_samples import EditSamples, FrameSamples, ReferenceSamples
from kinoform.training.objective import LevelSampling
from kinoform.training.optimizer import AdamSpec, OptimizerSpec, Schedule, no_matrix
from kinoform.training.samples import Samples
from kinoform.training.stage import TrainingSpec
from kinoform.world.sampling import Level

SINGLE = Level(textured=0.3, sized=0.3)
"""One object and a camera at rest: what a portrait shows is then no question."""


def frames() -> AdapterPlan:
    return _plan("frames", mini_adapters.frames(), FrameSamples(level=WORLD, seed=20261121), rank=16, steps=1800)


def vace() -> AdapterPlan:
    return _plan("vace", mini_adapters.vace(), EditSamples(level=WORLD, seed=20261122), rank=6, steps=3000, rate=1.5e-3)


def reference_guests() -> AdapterPlan:
    return _plan(
        "guests", mini_adapters.reference_guests(), ReferenceSamples(level=SINGLE, seed=20261123), rank=24, steps=1800
    )


def reference_stream() -> AdapterPlan:
    return _plan(
        "stream", mini_adapters.reference_stream(), ReferenceSamples(level=SINGLE, seed=20261123), rank=12, steps=1800
    )


def reference() -> AdapterPlan:
    return reference_guests()


def _plan(name: str, recipe: Recipe, samples: Samples, *, rank: int, steps: int, rate: float = 2e-3) -> AdapterPlan:
    """A model of 2 MB at most, which the rank sees to, from about 20 minutes of one core."""
    return AdapterPlan(
        name=name,
        base="mini",
        recipe=recipe,
        lora=LoRASpec(patterns=(*BLOCKS, "!branches.*"), rank=rank),
        samples=samples,
        levels=LevelSampling(shift=3.0),
        training=TrainingSpec(
            schedule=Schedule(warmup=50, total=steps, hold=0.5),
            optimizer=OptimizerSpec(adam=AdamSpec(learning_rate=rate), hidden=no_matrix),
        ),
        precision=torch.bfloat16,
    )
