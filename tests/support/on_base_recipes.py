"""A tiny transformer on the codec and the text encoder of the embedded model, which also reads references."""

from dataclasses import replace

from kinoform.conditions.protocols import VideoSize
from kinoform.mini.adapters import CONTEXT_REFERENCES
from kinoform.mini.recipe import mini
from kinoform.mini.training.dataset import Videos
from kinoform.mini.training.plan import TransformerPlan
from kinoform.mini.training.probe_loss import ProbeLoss
from kinoform.mini.training.reference_stage import ReferenceEncoderConfig, ReferenceEncoderPlan
from kinoform.mini.training.transformer_stage import ReferenceImages, TransformerConfig
from kinoform.models.context import ReferenceContext, ReferenceEncoderSpec
from kinoform.models.dit import DiTSpec
from kinoform.recipe import Recipe
from kinoform.training.ema import EMASpec
from kinoform.training.levels import LevelSampling
from kinoform.training.optimizer import OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import TrainingSpec
from kinoform.world.caption import vocabulary
from kinoform.world.sampling import L1

ENCODER = ReferenceEncoderSpec(dim=8, heads=2, layers=1, dim_ffn=8)
STREAM = ReferenceContext(width=CONTEXT_REFERENCES.width, encoder=ENCODER)


def recipe() -> Recipe:
    """5 frames of 32x32."""
    base = mini()
    return replace(
        base,
        name="tiny-on-mini",
        transformers=(DiTSpec(
            dim=24, ffn_dim=32, heads=2, layers=2, in_channels=32, out_channels=32, frequency_width=16,
            context=(*base.transformer.context, STREAM),
        ),),
        conditioners=(CONTEXT_REFERENCES,),
        width=32, height=32, num_frames=5, steps=2, guidance_scale=2.0,
    )  # fmt: skip


def plan() -> TransformerPlan:
    """Three steps of the encoder and of the transformer."""
    made = recipe()
    training = TrainingSpec(
        schedule=Schedule(warmup=0, total=3),
        optimizer=OptimizerSpec(hidden=no_matrix),
        ema=EMASpec(decay=0.5, every=1),
    )
    video = VideoSize(num_frames=5, height=32, width=32)
    return TransformerPlan(
        base="mini",
        recipe=made,
        words=vocabulary(),
        transformer=TransformerConfig(
            transformer=made.transformer,
            videos=Videos(level=L1, num_frames=5, height=32, width=32),
            levels=LevelSampling(),
            negative_prompt=made.negative_prompt,
            batch=4,
            probe_loss=ProbeLoss(layer=0),
            reference_images=ReferenceImages(rows=CONTEXT_REFERENCES, share=0.6),
        ),
        transformer_training=training,
        encoder=ReferenceEncoderPlan(
            config=ReferenceEncoderConfig(
                stream=STREAM, rows=CONTEXT_REFERENCES, dim=24, eps=made.transformer.eps, video=video, level=L1, batch=4
            ),
            training=training,
        ),
    )


def without_references() -> TransformerPlan:
    """The same from words alone."""
    made = plan()
    spec = replace(made.recipe.transformer, context=mini().transformer.context)
    return replace(
        made,
        recipe=replace(made.recipe, transformers=(spec,), conditioners=()),
        transformer=replace(made.transformer, transformer=spec, reference_images=None),
        encoder=None,
    )


def on_nothing() -> TransformerPlan:
    return replace(plan(), base="runs/mini")


def with_other_words() -> TransformerPlan:
    return replace(plan(), words=plan().words[::-1])
