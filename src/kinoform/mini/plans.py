"""Plans of the embedded models and of their adapters, for `kinoform train`."""

from dataclasses import replace

import torch
from torch import Tensor

from kinoform.conditions.protocols import VideoSize
from kinoform.mini import adapters
from kinoform.mini.experts_recipe import mini_experts as mini_experts_recipe
from kinoform.mini.factorized_recipe import IMAGES
from kinoform.mini.factorized_recipe import mini_factorized as factorized_recipe
from kinoform.mini.recipe import mini as mini_recipe
from kinoform.mini.training.autoencoder_stage import AutoencoderConfig
from kinoform.mini.training.dataset import (
    Captions,
    EditSamples,
    FrameSamples,
    MixedSamples,
    ReferenceSamples,
    UnmaskedSamples,
    Videos,
    WordSamples,
)
from kinoform.mini.training.plan import Plan, TransformerPlan
from kinoform.mini.training.reference_stage import (
    ReferenceEncoderConfig,
    ReferenceEncoderPlan,
    TextualInversionStage,
)
from kinoform.mini.training.text_stage import TextConfig
from kinoform.mini.training.transformer_stage import ReferenceImages, TransformerConfig
from kinoform.models.context import PseudoWordContext, ReferenceContext
from kinoform.models.lora import BLOCKS, LoRASpec
from kinoform.models.vae import VAESpec
from kinoform.recipe import Recipe
from kinoform.training.adapter import AdapterPlan
from kinoform.training.distillation import DistillationPlan
from kinoform.training.ema import EMASpec
from kinoform.training.examples import Samples
from kinoform.training.levels import LevelSampling
from kinoform.training.optimizer import AdamSpec, MuonSpec, OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import TrainingSpec
from kinoform.world.caption import vocabulary
from kinoform.world.sampling import Difficulty

WORLD = Difficulty(textured=0.3, sized=0.3, panned=0.25, paired=0.25)
"""All features of L3; more than a third of the scenes are as simple as L1."""

SINGLE = Difficulty(textured=0.3, sized=0.3)
"""One object and a camera at rest, so that it is clear what a reference image shows."""

OFF_PALETTE = 0.5
"""Share of the objects in reference images whose colour no word names. The encoder then learns colour and shape apart,
and reads pairs that it was never shown as well as any."""


def in_blocks(name: str, parameter: Tensor) -> bool:
    """Take the hidden matrices of the transformer; AdamW has the rest, the probe's too."""
    return name.startswith("model.blocks.") and name.endswith(".weight") and parameter.ndim == 2


def inner_convolutions(name: str, parameter: Tensor) -> bool:
    """Take the decoder's kernels between its first and its last layer."""
    return ".conv_" not in name and parameter.ndim >= 4 and name.startswith("decoder.")


def mini() -> Plan:
    """Plan `mini` in three stages: two hours of one core for the transformer, minutes for the rest."""
    recipe = mini_recipe()
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
            ema=EMASpec(decay=0.98, every=2),
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


def mini_factorized() -> TransformerPlan:
    """Plan `mini-factorized` as `mini`; some captions leave the object to a reference image."""
    recipe, full = factorized_recipe(), mini()
    images = ReferenceImages(rows=adapters.CONTEXT_REFERENCES, off_palette=OFF_PALETTE)
    encoder = reference_encoder(recipe, IMAGES)
    training = encoder.training
    return TransformerPlan(
        base="mini",
        recipe=recipe,
        words=full.words,
        transformer=replace(full.transformer, transformer=recipe.transformer, reference_images=images),
        transformer_training=full.transformer_training,
        encoder=replace(
            encoder,
            config=replace(encoder.config, off_palette=OFF_PALETTE),
            training=replace(training, schedule=replace(training.schedule, total=3600)),
            frozen=True,
        ),
    )


def frames() -> AdapterPlan:
    """Train `mini:frames` on videos of which some frames are known."""
    return _adapter("frames", adapters.frames(), FrameSamples(level=WORLD, seed=20261121), rank=16, steps=2000)


def vace() -> AdapterPlan:
    """Train `mini:vace` on videos to change."""
    samples = EditSamples(level=WORLD, seed=20261122)
    return _adapter("vace", adapters.vace(), samples, rank=6, steps=3000, learning_rate=1.5e-3)


def context() -> AdapterPlan:
    """Train `mini:context` on the samples of `mini:vace` and `mini:reference`, as many of each as these two."""
    edits = UnmaskedSamples(samples=EditSamples(level=WORLD, seed=20261122))
    samples = MixedSamples(kinds=((3, edits), (1, ReferenceSamples(level=SINGLE, seed=20261123))))
    plan = _adapter("context", adapters.context(), samples, rank=30, steps=4000, learning_rate=1.5e-3)
    return replace(plan, levels=LevelSampling(shift=5.0), segment_dropout=0.1)


def fast() -> DistillationPlan:
    """Distil `mini:fast`, which makes videos in four steps; the time's layers and the head learn too."""
    everywhere = ("time_embedding.*", "time_projection.*", "head.*")
    return DistillationPlan(
        name="fast",
        base="mini",
        recipe=adapters.fast(),
        teacher=mini_recipe(),
        lora=LoRASpec(patterns=(*BLOCKS, *everywhere), rank=28),
        substeps=3,
        prompts=Captions(level=WORLD, seed=20261201),
        training=TrainingSpec(
            schedule=Schedule(warmup=50, total=600, hold=0.8),
            optimizer=OptimizerSpec(adam=AdamSpec(learning_rate=2e-3), hidden=no_matrix),
        ),
        precision=torch.bfloat16,
    )


def mini_experts() -> AdapterPlan:
    """Train `mini-experts` at the noise levels of generation, each of the two at its own."""
    samples = WordSamples(level=WORLD, seed=20261124)
    plan = _adapter("experts", mini_experts_recipe(), samples, rank=12, steps=1000)
    return replace(plan, levels=LevelSampling(shift=8.0))


def in_context_references() -> AdapterPlan:
    """Train reference images as tokens that self-attention sees."""
    return _reference("in_context", adapters.in_context_references(), rank=24)


def reference_context() -> AdapterPlan:
    """Train reference images as a gated stream of cross-attention."""
    recipe = adapters.reference_context()
    plan = _reference("context", recipe, rank=5)
    muon = MuonSpec(learning_rate=0.02, precision=torch.bfloat16)
    optimizer = replace(plan.training.optimizer, muon=muon, hidden=_stream_matrices)
    return replace(
        plan,
        encoder=reference_encoder(recipe, adapters.READ),
        training=replace(plan.training, optimizer=optimizer),
    )


def reference_pseudo_words() -> AdapterPlan:
    """Train a reference image as words of the prompt, by textual inversion first."""
    recipe = adapters.reference_pseudo_words()
    training = TrainingSpec(
        schedule=Schedule(warmup=50, total=4000),
        optimizer=OptimizerSpec(
            adam=AdamSpec(learning_rate=1e-3),
            muon=MuonSpec(learning_rate=0.02, precision=torch.bfloat16),
            hidden=_encoder_matrices,
        ),
    )
    encoder = reference_encoder(recipe, adapters.WORDS)
    config = replace(encoder.config, off_palette=OFF_PALETTE)
    encoder = replace(encoder, config=config, training=training, stage=TextualInversionStage, frozen=True)
    return replace(_reference("pseudo_words", recipe, rank=20), encoder=encoder)


def reference() -> AdapterPlan:
    """Train `mini:reference`, the best of the three."""
    return reference_pseudo_words()


def reference_encoder(recipe: Recipe, stream: ReferenceContext | PseudoWordContext) -> ReferenceEncoderPlan:
    """Train a recipe's stream of reference images on colour and shape, before the rest learns."""
    return ReferenceEncoderPlan(
        config=ReferenceEncoderConfig(
            stream=stream,
            rows=adapters.CONTEXT_REFERENCES,
            dim=recipe.transformer.dim,
            eps=recipe.transformer.eps,
            video=VideoSize(num_frames=recipe.num_frames, height=recipe.height, width=recipe.width),
            level=SINGLE,
        ),
        training=TrainingSpec(
            schedule=Schedule(warmup=50, total=1200),
            optimizer=OptimizerSpec(adam=AdamSpec(learning_rate=1e-3), hidden=no_matrix),
        ),
    )


def _encoder_matrices(name: str, parameter: Tensor) -> bool:
    return ".blocks." in name and parameter.ndim == 2


def _stream_matrices(name: str, parameter: Tensor) -> bool:
    """Take the matrices of an added stream; the factors of low-rank changes are AdamW's."""
    added = ".streams.reference." in name or ".context.reference." in name
    return added and name.endswith(".weight") and parameter.ndim == 2


def _reference(name: str, recipe: Recipe, *, rank: int) -> AdapterPlan:
    """Plan at the noise levels of generation, since the object of an image is decided near pure noise."""
    plan = _adapter(name, recipe, ReferenceSamples(level=SINGLE, seed=20261123), rank=rank, steps=1000)
    return replace(plan, levels=LevelSampling(shift=8.0))


def _adapter(
    name: str, recipe: Recipe, samples: Samples, *, rank: int, steps: int, learning_rate: float = 2e-3
) -> AdapterPlan:
    """Plan an adapter of at most 2 MB, by its rank, from about 20 minutes of one core."""
    return AdapterPlan(
        name=name,
        base="mini",
        recipe=recipe,
        lora=LoRASpec(patterns=(*BLOCKS, "!branches.*"), rank=rank),
        samples=samples,
        levels=LevelSampling(shift=3.0),
        training=TrainingSpec(
            schedule=Schedule(warmup=50, total=steps, hold=0.5),
            optimizer=OptimizerSpec(adam=AdamSpec(learning_rate=learning_rate), hidden=no_matrix),
        ),
        precision=torch.bfloat16,
    )
