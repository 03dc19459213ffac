"""Portraits learn to say what the base's own words for them are."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

import kinoform
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES
from kinoform.media.types import InputImage
from kinoform.mini import plans
from kinoform.mini.training.reference_stage import ReferenceEncoderPlan, TextualInversionStage
from kinoform.models.context import ReferenceEncoderSpec
from kinoform.models.dit import DiT
from kinoform.training.ema import EMASpec
from kinoform.training.frozen import CodecOnly, FrozenParts
from kinoform.training.optimizer import AdamSpec, OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import RunOptions, TrainingSpec
from kinoform.world.portrait import portrait
from kinoform.world.sampling import sample_scene
from tests.support.refusals import refused

QUIET = RunOptions(show_progress=False)
CPU = torch.device("cpu")


def plan(steps: int, **changes: object) -> ReferenceEncoderPlan:
    whole = plans.reference_pseudo_words().encoder
    assert isinstance(whole, ReferenceEncoderPlan)
    stream = replace(whole.config.stream, encoder=ReferenceEncoderSpec(dim=32, heads=2, layers=1, dim_ffn=32))
    training = TrainingSpec(
        schedule=Schedule(warmup=1, total=steps),
        optimizer=OptimizerSpec(adam=AdamSpec(learning_rate=3e-3), hidden=no_matrix),
        ema=EMASpec(decay=0.5, every=1),
    )
    config = replace(whole.config, stream=stream, **{"batch": 8, **changes})
    return replace(whole, config=config, training=training)


@cache
def frozen() -> FrozenParts:
    parts = kinoform.load("mini", device="cpu").parts
    text = parts.text_encoder(torch.float32, CPU)
    return FrozenParts(codec=parts.codec(CPU), tokenizer=parts.tokenizer(), text_encoder=text)


@cache
def base() -> DiT:
    return kinoform.load("mini", device="cpu").parts.transformer(torch.float32, CPU)


def test_the_words_are_the_base_s_own() -> None:
    """Colour and shape of the portrait's object, each as blocks of the base would read it in a prompt by itself."""
    stage = TextualInversionStage(plan(1).config, base(), frozen())
    found = stage._tokens([("red", "ball"), ("green", "ball")])
    for place, word in (((0, 0), "red"), ((0, 1), "ball"), ((1, 0), "green"), ((1, 1), "ball")):
        assert torch.allclose(found[place], base().context["text"](frozen().rows([word]))[0, 0], atol=1e-4)


def test_its_rows_are_those_of_a_request() -> None:
    config = plan(1, off_palette=0.0).config
    batch = TextualInversionStage(config, base(), frozen()).batch(3)
    generator = np.random.default_rng([config.seed, 3])
    thing = sample_scene(config.level, generator).things[0]
    generator.random()
    image = InputImage(pixels=portrait(thing, generator, height=64, width=64))
    wanted = config.rows.encode(Inputs({REFERENCE_IMAGES: (image,)}), config.video, CodecOnly(frozen().codec))
    assert torch.equal(batch.rows[:1], wanted.context["reference"]) and bool((batch.weight == 1).all())
    own = TextualInversionStage(config, base(), frozen())._tokens(
        [(thing.subject.colour.name, thing.subject.shape.name)]
    )
    assert torch.allclose(batch.tokens[:1], own, atol=1e-4)


def test_no_word_tells_the_colour_of_what_is_dyed() -> None:
    batch = TextualInversionStage(plan(1, off_palette=1.0).config, base(), frozen()).batch(0)
    assert batch.weight.tolist() == [[0.0, 1.0]] * 8


def test_a_dyed_portrait_has_that_colour() -> None:
    thing = sample_scene(plan(1).config.level, np.random.default_rng(1)).things[0]
    pixels = portrait(thing, np.random.default_rng(2), rgb=(90, 10, 200))
    assert (pixels == (90, 10, 200)).all(-1).mean() > 0.05


def test_it_learns_to_say_them(tmp_path: Path) -> None:
    """In a few steps: fewer errors than at the start, and resumed to the same weights."""
    made = plan(24, batch=16)
    stage = TextualInversionStage(made.config, base(), frozen())
    before = stage.loss(stage.batch(10**6)).item()
    whole = made.train(base(), frozen(), tmp_path / "whole", QUIET)
    stage.modules().load_state_dict(whole.weights)
    assert stage.loss(stage.batch(10**6)).item() < 0.8 * before
    right = whole.report["accuracy"]
    assert isinstance(right, dict) and right.keys() == {"colour", "shape"} and whole.report["steps"] == 24
    again = made.train(base(), frozen(), tmp_path / "whole", QUIET)
    assert all(torch.equal(value, again.weights[name]) for name, value in whole.weights.items())
    with refused("checkpoint_of_other_plan", "seed"):
        plan(24, batch=16, seed=6).train(base(), frozen(), tmp_path / "whole", QUIET)
