"""The whole plan of a tiny model: three stages, the gate between them, and going on after a stop."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kinoform.conditions.protocols import VideoSize
from kinoform.mini.training.autoencoder_stage import AutoencoderConfig, new_autoencoder
from kinoform.mini.training.dataset import SizeShare, Videos
from kinoform.mini.training.plan import Plan, prepare_tokenizer, train_autoencoder, train_plan
from kinoform.mini.training.probe_loss import ProbeLoss
from kinoform.mini.training.text_stage import TextConfig, TextStage
from kinoform.mini.training.transformer_stage import ProbedModel, TransformerConfig, TransformerStage
from kinoform.models.context import TextContext
from kinoform.models.dit import DiT, DiTSpec, cast_weights
from kinoform.models.text import TextSpec
from kinoform.models.vae import VAESpec
from kinoform.ops.patch import grid_of
from kinoform.recipe import Recipe
from kinoform.solvers.levels import noised
from kinoform.training.frozen import FrozenParts
from kinoform.training.levels import LevelSampling
from kinoform.training.objective import flow_matching_loss, timesteps
from kinoform.training.optimizer import OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import RunOptions, TrainingSpec, step_flops
from kinoform.types import Conditions
from kinoform.world.caption import vocabulary
from kinoform.world.sampling import L1
from tests.support.narrowing import of_type, some
from tests.support.refusals import refused

QUIET = RunOptions(show_progress=False)


def tiny_plan(**changes: object) -> Plan:
    recipe = Recipe(
        name="tiny",
        transformers=(DiTSpec(
            dim=24, ffn_dim=32, heads=2, layers=2, in_channels=8, out_channels=8, frequency_width=16,
            context=(TextContext(width=16, length=24),),
        ),),
        codec=VAESpec(dim=2, channels=8, residual_blocks=1, mean=(), std=(), shortcut=True, linear_encoder=True),
        text=TextSpec(
            vocab=len(vocabulary()) + 3, dim=16, dim_attention=16, dim_ffn=16, heads=2, layers=1, length=24
        ),
        width=32, height=32, num_frames=5,
    )  # fmt: skip
    videos = Videos(level=L1, num_frames=5, height=32, width=32)
    short = TrainingSpec(schedule=Schedule(warmup=1, total=3), optimizer=OptimizerSpec(hidden=no_matrix))
    plan = Plan(
        recipe=recipe,
        words=vocabulary(),
        autoencoder=AutoencoderConfig(codec=of_type(VAESpec, recipe.codec), videos=videos, batch=2, fit_videos=50),
        autoencoder_training=short,
        text=TextConfig(text=recipe.text, videos=videos, batch=4),
        text_training=short,
        transformer=TransformerConfig(
            transformer=recipe.transformer,
            videos=videos,
            levels=LevelSampling(),
            negative_prompt="",
            batch=4,
            probe_loss=ProbeLoss(layer=0),
        ),
        transformer_training=short,
        gate=0.0,
        gate_videos=3,
    )
    return replace(plan, **changes)


def test_every_stage_runs_and_reports(tmp_path: Path) -> None:
    shown = []
    options = RunOptions(show_progress=False, sample_every=2)
    found = train_plan(tiny_plan(), tmp_path, options, lambda model, frozen, path: shown.append(path.name))
    assert set(found.report) == {"autoencoder", "text_encoder", "transformer"}
    reports: dict[str, Any] = found.report
    assert all(report["steps"] == 3 and report["flops"] > 0 for report in reports.values())
    assert shown == ["step-00000002.png"]
    for module in (found.codec, found.text_encoder, found.transformer):
        assert not any(parameter.requires_grad for parameter in some(module).parameters())
    again = train_plan(tiny_plan(), tmp_path, QUIET)
    for name, parameter in found.transformer.named_parameters():
        assert torch.equal(parameter, again.transformer.get_parameter(name)), "a finished run is read, not repeated"


def test_the_gate_stops_a_bad_autoencoder(tmp_path: Path) -> None:
    with refused("gate_not_passed", "100%"):
        train_autoencoder(tiny_plan(gate=1.0), tmp_path, QUIET)


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


def untrained(plan: Plan, folder: Path) -> FrozenParts:
    codec, encoder = new_autoencoder(some(plan.autoencoder)), plan.recipe.text.build().eval()
    return FrozenParts(codec=codec, tokenizer=prepare_tokenizer(plan, folder), text_encoder=encoder)


def test_low_precision_rounds_what_is_computed_with_and_not_what_is_learnt(tmp_path: Path) -> None:
    """The loss is that of a model cast as generation casts it; weights and gradients stay in float32."""
    plan = tiny_plan()
    frozen = untrained(plan, tmp_path)
    config = replace(plan.transformer, probe_loss=ProbeLoss(layer=0, cover=0.0, answers=0.0))
    stage = TransformerStage(replace(config, precision=torch.bfloat16), frozen)
    pupil, batch = stage.modules(), stage.batch(0)
    assert isinstance(pupil, ProbedModel)
    model = pupil.model
    torch.nn.init.normal_(model.head.linear.weight)
    loss = stage.loss(batch)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32, name
        assert parameter.grad.any() or ".k.bias" in name, name
    rounded = cast_weights(stage.transformer().requires_grad_(), torch.bfloat16)
    assert isinstance(rounded, DiT)
    x = noised(batch.x0, batch.noise, batch.sigma)
    prepared = rounded.prepare(Conditions(context={"text": batch.rows}), grid_of(x, model.spec.patch))
    velocity = rounded(x, timesteps(batch.sigma), prepared)
    assert torch.equal(loss, flow_matching_loss(velocity, batch.noise, batch.x0))
    whole = TransformerStage(config, frozen)
    whole.modules().load_state_dict(pupil.state_dict())
    assert 0 < (whole.loss(batch) - loss).abs() < 0.02 * loss


def test_the_operations_of_a_step_are_those_of_its_size(tmp_path: Path) -> None:
    plan = tiny_plan()
    videos = plan.transformer.videos
    wide = VideoSize(num_frames=videos.num_frames, height=videos.height, width=2 * videos.width)
    sizes = SizeShare(video=videos.size), SizeShare(video=wide)
    config = replace(plan.transformer, videos=replace(videos, sizes=sizes), batch=2)
    stage = TransformerStage(config, untrained(plan, tmp_path))
    steps = {config.videos.at(step).size: step for step in range(20)}
    small, large = stage.flops(steps[videos.size]), stage.flops(steps[wide])
    assert large == step_flops(stage.loss, stage.batch(steps[wide])) > small


def test_training_sees_what_generation_sees(tmp_path: Path) -> None:
    """Text rows, latents and the dropped caption are those that a pipeline would make of the same video."""
    from kinoform.models.text import text_features

    plan = tiny_plan()
    frozen = untrained(plan, tmp_path)
    codec, tokenizer, encoder = frozen.codec, frozen.tokenizer, frozen.text_encoder
    stage = TransformerStage(replace(plan.transformer, dropout=1.0), frozen)
    batch = stage.batch(0)
    assert torch.allclose(batch.rows, text_features(tokenizer, encoder, [""]).expand_as(batch.rows), atol=1e-6)
    videos = plan.transformer.videos
    latents, _ = codec.encode(videos.pixels(videos.scenes(0, 4)[0]))
    assert torch.equal(batch.x0, latents)
    kept = TransformerStage(replace(plan.transformer, dropout=0.0), frozen).batch(0)
    assert torch.equal(kept.x0, batch.x0) and not torch.equal(kept.rows, batch.rows)
