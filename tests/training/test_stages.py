"""The whole plan of a tiny model: three stages, the gate between them, and going on after a stop."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinoform.errors import KinoformError
from kinoform.models.context import TextStream
from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec
from kinoform.models.vae import VAESpec
from kinoform.recipe import Recipe
from kinoform.training.autoencoder import AutoencoderConfig
from kinoform.training.films import Films
from kinoform.training.objective import LevelSampling
from kinoform.training.optimizer import OptimizerSpec, Schedule, no_matrix
from kinoform.training.plan import Plan
from kinoform.training.stage import TrainingSpec, Upkeep
from kinoform.training.stages import prepare_tokenizer, train_autoencoder, train_plan
from kinoform.training.text import TextConfig, TextStage, answers
from kinoform.training.transformer import Frozen, TransformerConfig, TransformerStage
from kinoform.world.caption import vocabulary
from kinoform.world.parse import parse
from kinoform.world.sampling import L1

QUIET = Upkeep(show_progress=False)


def tiny_plan(**changes: object) -> Plan:
    recipe = Recipe(
        name="tiny",
        transformer=DiTSpec(
            dim=24, ffn_dim=32, heads=2, layers=2, in_channels=8, out_channels=8, frequency_width=16,
            context=(TextStream(width=16, rows=24),),
        ),
        codec=VAESpec(dim=2, channels=8, residual_blocks=1, mean=(), std=(), shortcut=True, linear_encoder=True),
        text=TextSpec(
            vocab=len(vocabulary()) + 3, dim=16, dim_attention=16, dim_ffn=16, heads=2, layers=1, length=24
        ),
        width=32, height=32, num_frames=5,
    )  # fmt: skip
    films = Films(level=L1, num_frames=5, height=32, width=32)
    short = TrainingSpec(schedule=Schedule(warmup=1, total=3), optimizer=OptimizerSpec(hidden=no_matrix))
    plan = Plan(
        recipe=recipe,
        words=vocabulary(),
        autoencoder=AutoencoderConfig(codec=recipe.codec, films=films, batch=2, fit_films=50),
        autoencoder_training=short,
        text=TextConfig(text=recipe.text, films=films, batch=4),
        text_training=short,
        transformer=TransformerConfig(
            transformer=recipe.transformer, films=films, levels=LevelSampling(), negative_prompt="", batch=4
        ),
        transformer_training=short,
        gate=0.0,
        gate_films=3,
    )
    return replace(plan, **changes)


def test_every_stage_runs_and_reports(tmp_path: Path) -> None:
    shown = []
    upkeep = Upkeep(show_progress=False, sample_every=2)
    found = train_plan(tiny_plan(), tmp_path, upkeep, lambda model, frozen, path: shown.append(path.name))
    assert set(found.report) == {"autoencoder", "text_encoder", "transformer"}
    assert all(report["steps"] == 3 and report["flops"] > 0 for report in found.report.values())
    assert shown == ["step-00000002.png"]
    for module in (found.codec, found.text_encoder, found.transformer):
        assert not any(parameter.requires_grad for parameter in module.parameters())
    again = train_plan(tiny_plan(), tmp_path, QUIET)
    for name, parameter in found.transformer.named_parameters():
        assert torch.equal(parameter, again.transformer.get_parameter(name)), "a finished run is read, not repeated"


def test_the_gate_stops_a_bad_autoencoder(tmp_path: Path) -> None:
    with pytest.raises(KinoformError, match="below the gate of 100%"):
        train_autoencoder(tiny_plan(gate=1.0), tmp_path, QUIET)


def test_text_questions_are_answered_from_the_story() -> None:
    background, colour, shape, motion = answers(parse("a green star spins on a black background"))
    assert (background, colour, shape, motion) == (9, 1, 3, 6)


def test_text_training_learns(tmp_path: Path) -> None:
    plan = tiny_plan()
    stage = TextStage(replace(plan.text, batch=32), prepare_tokenizer(plan, tmp_path))
    optimizer = torch.optim.Adam(stage.modules().parameters(), 1e-2)
    losses = []
    for step in range(40):
        loss = stage.loss(stage.batch(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_training_sees_what_generation_sees(tmp_path: Path) -> None:
    """Text rows, latents and the dropped caption are those that a pipeline would make of the same film."""
    from kinoform.conditions.text import text_rows
    from kinoform.training.autoencoder import new_autoencoder

    plan = tiny_plan()
    tokenizer = prepare_tokenizer(plan, tmp_path)
    encoder = plan.recipe.text.build().eval()
    codec = new_autoencoder(plan.autoencoder)
    frozen = Frozen(codec=codec, tokenizer=tokenizer, text_encoder=encoder)
    stage = TransformerStage(replace(plan.transformer, dropout=1.0), frozen)
    batch = stage.batch(0)
    assert torch.allclose(batch.rows, text_rows(tokenizer, encoder, [""]).expand_as(batch.rows), atol=1e-6)
    films = plan.transformer.films
    latents, _ = codec.encode(films.pixels(films.scenes(0, 4)[0]))
    assert torch.equal(batch.x0, latents)
    kept = TransformerStage(replace(plan.transformer, dropout=0.0), frozen).batch(0)
    assert torch.equal(kept.x0, batch.x0) and not torch.equal(kept.rows, batch.rows)
