"""How the adapters of the embedded model are trained: `kinoform train mini:frames`, `mini:vace`, `mini:reference`."""

from dataclasses import replace

import torch
from torch import Tensor

from kinoform.conditions.protocols import VideoSize
from kinoform.mini import adapters as mini_adapters
from kinoform.mini.plans import WORLD
from kinoform.mini.training.adapter_dataset import EditSamples, FrameSamples, ReferenceSamples
from kinoform.mini.training.reference_stage import ReaderConfig, ReaderPlan
from kinoform.mini.training.textual_inversion_stage import WordsConfig, WordsPlan
from kinoform.models.context import ReferenceStream
from kinoform.models.lora import BLOCKS, LoRASpec
from kinoform.recipe import Recipe
from kinoform.training.adapter import AdapterPlan
from kinoform.training.adapter_data import Samples
from kinoform.training.objective import LevelSampling
from kinoform.training.optimizer import AdamSpec, MuonSpec, OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import TrainingSpec
from kinoform.world.sampling import Level

SINGLE = Level(textured=0.3, sized=0.3)
"""One object and a camera at rest: what a portrait shows is then no question."""

READER_TRAINING = TrainingSpec(
    schedule=Schedule(warmup=50, total=1200),
    optimizer=OptimizerSpec(adam=AdamSpec(learning_rate=1e-3), hidden=no_matrix),
)


def _in_blocks(name: str, parameter: Tensor) -> bool:
    """The matrices of the reader's blocks."""
    return ".blocks." in name and parameter.ndim == 2


WORDS_TRAINING = TrainingSpec(
    schedule=Schedule(warmup=50, total=4000),
    optimizer=OptimizerSpec(
        adam=AdamSpec(learning_rate=1e-3),
        muon=MuonSpec(learning_rate=0.02, precision=torch.bfloat16),
        hidden=_in_blocks,
    ),
)


def frames() -> AdapterPlan:
    return _plan("frames", mini_adapters.frames(), FrameSamples(level=WORLD, seed=20261121), rank=16, steps=2000)


def vace() -> AdapterPlan:
    return _plan("vace", mini_adapters.vace(), EditSamples(level=WORLD, seed=20261122), rank=6, steps=3000, rate=1.5e-3)


def reference_guests() -> AdapterPlan:
    return _reference("guests", mini_adapters.reference_guests(), rank=24)


def reference_stream() -> AdapterPlan:
    recipe = mini_adapters.reference_stream()
    plan = _reference("stream", recipe, rank=5)
    muon = MuonSpec(learning_rate=0.02, precision=torch.bfloat16)
    optimizer = replace(plan.training.optimizer, muon=muon, hidden=_own_matrices)
    return replace(
        plan,
        reader=reading(recipe, mini_adapters.READ),
        training=replace(plan.training, optimizer=optimizer),
    )


def reference_words() -> AdapterPlan:
    recipe = mini_adapters.reference_words()
    config = WordsConfig(
        stream=mini_adapters.SAID, rows=mini_adapters.REFERENCE_ROWS, video=_video(recipe), level=SINGLE
    )
    return replace(_reference("words", recipe, rank=20), reader=WordsPlan(config=config, training=WORDS_TRAINING))


def reference() -> AdapterPlan:
    return reference_words()


def reading(recipe: Recipe, stream: ReferenceStream) -> ReaderPlan:
    """How a recipe's stream of references learns to read."""
    return ReaderPlan(
        config=ReaderConfig(
            stream=stream,
            rows=mini_adapters.REFERENCE_ROWS,
            dim=recipe.transformer.dim,
            eps=recipe.transformer.eps,
            video=_video(recipe),
            level=SINGLE,
        ),
        training=READER_TRAINING,
    )


def _reference(name: str, recipe: Recipe, *, rank: int) -> AdapterPlan:
    """Plan at the levels of a video's steps: what an image says is decided near pure noise, then the video shows it."""
    plan = _plan(name, recipe, ReferenceSamples(level=SINGLE, seed=20261123), rank=rank, steps=1000)
    return replace(plan, levels=LevelSampling(shift=8.0))


def _own_matrices(name: str, parameter: Tensor) -> bool:
    """Those of an added stream, which are whole; the thin ones of the low-rank changes are AdamW's."""
    own = ".streams.reference." in name or ".context.reference." in name
    return own and name.endswith(".weight") and parameter.ndim == 2


def _video(recipe: Recipe) -> VideoSize:
    return VideoSize(num_frames=recipe.num_frames, height=recipe.height, width=recipe.width)


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
