"""The reader of a reference stream learns what portraits show, from the rows that a request gives."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch

import kinoform.mini.training.reference_stage as module
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.references import ContextReferences, LatentFeatures
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES
from kinoform.media.types import InputImage
from kinoform.mini.training.autoencoder_stage import new_autoencoder
from kinoform.mini.training.plan import prepare_tokenizer
from kinoform.mini.training.reference_stage import (
    COLOUR,
    SHAPE,
    AttributeStage,
    ReferenceClassifier,
    ReferenceEncoderConfig,
    ReferenceEncoderPlan,
)
from kinoform.models.context import ReferenceContext, ReferenceEncoderSpec
from kinoform.training.ema import EMASpec
from kinoform.training.frozen import CodecOnly, FrozenParts
from kinoform.training.optimizer import OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import RunOptions, TrainingSpec
from kinoform.world.sampling import COLOUR_JITTER, L3, colour_is_held_out
from kinoform.world.scene import Thing
from tests.support.narrowing import some
from tests.support.refusals import refused
from tests.training.test_stages import tiny_plan

ROWS = ContextReferences(features=LatentFeatures(channels=8))
CONFIG = ReferenceEncoderConfig(
    stream=ReferenceContext(width=ROWS.width, encoder=ReferenceEncoderSpec(dim=16, heads=2, layers=1, dim_ffn=16)),
    rows=ROWS, dim=24, eps=1e-6, video=VideoSize(num_frames=5, height=32, width=32), level=L3, batch=16,
)  # fmt: skip
PLAN = ReferenceEncoderPlan(
    config=replace(CONFIG, batch=4),
    training=TrainingSpec(
        schedule=Schedule(warmup=1, total=4),
        optimizer=OptimizerSpec(hidden=no_matrix),
        ema=EMASpec(decay=0.5, every=1),
    ),
)
Shown: TypeAlias = list[tuple[Thing, InputImage]]
QUIET = RunOptions(show_progress=False)
BASE = tiny_plan().recipe.transformer.build()
"""Nothing is asked of it."""


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> FrozenParts:
    plan = tiny_plan()
    assert plan.autoencoder is not None
    tokenizer = prepare_tokenizer(plan, tmp_path_factory.mktemp("words"))
    codec, encoder = new_autoencoder(plan.autoencoder), plan.recipe.text.build().eval()
    return FrozenParts(codec=codec, tokenizer=tokenizer, text_encoder=encoder)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Everything that has been drawn: of what, and the image."""
    drawn, draw = [], module.portrait

    def noted(thing: Thing, *words: Any, **sizes: Any) -> object:
        pixels = draw(thing, *words, **sizes)
        drawn.append((thing, InputImage(pixels=pixels)))
        return pixels

    monkeypatch.setattr(module, "portrait", noted)
    return drawn


def test_the_rows_are_those_of_a_request(frozen: FrozenParts, shown: Shown) -> None:
    stage = AttributeStage(CONFIG, BASE, frozen)
    shown.clear()
    found = stage.batch(3)
    assert len(found.rows) == len(shown) == CONFIG.batch
    for rows, (_, image) in zip(found.rows, shown, strict=True):
        given = ROWS.encode(Inputs({REFERENCE_IMAGES: (image,)}), CONFIG.video, CodecOnly(frozen.codec))
        assert torch.equal(given.context["reference"][0], rows)
    assert torch.equal(found.rows, stage.batch(3).rows) and not torch.equal(found.rows, stage.batch(4).rows)


def test_answers_are_what_is_shown_and_nothing_is_held_out(
    frozen: FrozenParts, shown: list[tuple[Thing, InputImage]]
) -> None:
    stage = AttributeStage(CONFIG, BASE, frozen)
    shown.clear()
    found = [stage.batch(step) for step in range(6)]
    told = [[attribute.choices[n] for attribute, n in zip((COLOUR, SHAPE), row.tolist(), strict=True)]
            for each in found for row in each.values]  # fmt: skip
    subjects = [thing.subject for thing, _ in shown]
    assert told == [[subject.colour, subject.shape] for subject in subjects]
    assert not any(colour_is_held_out(subject.colour, subject.shape) for subject in subjects)


def test_nothing_is_asked_of_a_colour_that_no_word_tells(
    frozen: FrozenParts, shown: list[tuple[Thing, InputImage]]
) -> None:
    """And what answers its question has no gradient from it."""
    stage = AttributeStage(replace(CONFIG, off_palette=0.5), BASE, frozen)
    shown.clear()
    found = stage.batch(2)
    asked = found.values[:, 0] >= 0
    assert 0 < asked.sum() < CONFIG.batch and (found.values[:, 1] >= 0).all()
    for (thing, image), named in zip(shown, asked.tolist(), strict=True):
        near = np.abs(image.pixels.astype(int) - thing.subject.colour.rgb).max(-1) <= COLOUR_JITTER
        assert (near.mean() > 0.02) == named, thing.subject
    nameless = AttributeStage(replace(CONFIG, off_palette=1.0), BASE, frozen)
    nameless.loss(nameless.batch(0)).backward()
    colour, shape = (nameless.modules().get_parameter(f"heads.classifiers.{n}.weight") for n in (0, 1))
    assert not some(colour.grad).any() and some(shape.grad).any()


def test_a_reader_learns(frozen: FrozenParts) -> None:
    """About images that it was not trained on."""
    stage = AttributeStage(replace(CONFIG, batch=32), BASE, frozen)
    optimizer, others = torch.optim.Adam(stage.modules().parameters(), 1e-2), stage.batch(1000)
    before, right = stage.loss(others).item(), stage.accuracy(others)
    for step in range(40):
        optimizer.zero_grad()
        stage.loss(stage.batch(step)).backward()
        assert all(parameter.grad is not None for parameter in stage.modules().parameters())
        optimizer.step()
    assert stage.loss(others).item() < 0.9 * before
    after = stage.accuracy(others)
    assert after.keys() == {"first colour", "first shape"} and after["first colour"] > right["first colour"]


def test_a_training_goes_on_where_it_was_stopped(frozen: FrozenParts, tmp_path: Path) -> None:
    whole = PLAN.train(BASE, frozen, tmp_path / "whole", QUIET)
    stopped = PLAN.train(BASE, frozen, tmp_path / "parts", replace(QUIET, seconds=1e-9, save_every=1))
    assert stopped.report["steps"] == 1
    assert not all(torch.equal(stopped.weights[name], value) for name, value in whole.weights.items())
    rest = PLAN.train(BASE, frozen, tmp_path / "parts", QUIET)
    assert rest.report["steps"] == whole.report["steps"] == 4 and rest.report["accuracy"] == whole.report["accuracy"]
    assert rest.weights.keys() == whole.weights.keys() == CONFIG.stream.build(24, 1e-6).state_dict().keys()
    assert all(torch.equal(rest.weights[name], value) for name, value in whole.weights.items())
    with refused("checkpoint_of_other_plan", "seed"):
        replace(PLAN, config=replace(PLAN.config, seed=6)).train(BASE, frozen, tmp_path / "parts", QUIET)


def test_a_reader_begins_from_its_seed_alone(frozen: FrozenParts) -> None:
    first, again, other = (AttributeStage(replace(CONFIG, seed=n), BASE, frozen).modules() for n in (5, 5, 6))
    assert isinstance(first, ReferenceClassifier)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(*(model.get_parameter("embedding.0.enter.weight") for model in (first, other)))


def test_there_is_no_image_encoder_in_a_training(frozen: FrozenParts) -> None:
    assert CodecOnly(frozen.codec).codec() is frozen.codec
    with refused("part_missing"):
        CodecOnly(frozen.codec).image()
