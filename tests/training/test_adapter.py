"""Adapters learn from what requests give; the model that they adapt stays as it was."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.references import InContextReferences
from kinoform.loading.additions import Additions
from kinoform.loading.parts import Parts
from kinoform.mini.plans import context, frames, in_context_references, reference_context, reference_pseudo_words, vace
from kinoform.mini.recipe import mini
from kinoform.mini.training.dataset import ReferenceSamples
from kinoform.models.in_context import InContextImages
from kinoform.models.lora import BLOCKS, LoRASpec, adapters_of, bare
from kinoform.recipes.load import load
from kinoform.training.adapter import CPU, AdapterPlan, train_adapter
from kinoform.training.devices import moved
from kinoform.training.distributed import Rank, SingleProcess
from kinoform.training.frozen import FrozenParts
from kinoform.training.learner import Learner
from kinoform.training.levels import LevelSampling
from kinoform.training.optimizer import OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import RunOptions, TrainingSpec
from kinoform.training.tuning_stage import AdapterStage
from kinoform.world.sampling import L1
from tests.support.refusals import refused

PLANS = {
    "frames": frames,
    "vace": vace,
    "in_context": in_context_references,
    "context": reference_context,
    "pseudo_words": reference_pseudo_words,
}
SMALL = {**PLANS, "segments": context}
QUIET = RunOptions(show_progress=False)


@cache
def parts() -> Parts:
    return load("mini").parts


def frozen() -> FrozenParts:
    of = parts()
    return FrozenParts(codec=of.codec(CPU), tokenizer=of.tokenizer(), text_encoder=of.text_encoder(torch.float32, CPU))


def stage(plan: AdapterPlan, rank: Rank | None = None) -> AdapterStage:
    base = parts().transformer(plan.precision, CPU)
    return AdapterStage(plan, base, plan.examples(frozen()), base_hash="of the base", rank=rank)


def short(steps: int = 3) -> AdapterPlan:
    """InContextTokens of the embedded model, in few steps of small batches."""
    return AdapterPlan(
        name="in_context",
        base="mini",
        recipe=replace(
            mini(),
            num_frames=5,
            conditioners=(InContextReferences(),),
            additions=Additions(branches=(InContextImages(),)),
        ),
        lora=LoRASpec(patterns=BLOCKS, rank=2),
        samples=ReferenceSamples(level=L1, seed=1),
        levels=LevelSampling(),
        training=TrainingSpec(schedule=Schedule(warmup=0, total=steps), optimizer=OptimizerSpec(hidden=no_matrix)),
        batch=4,
    )


@pytest.mark.parametrize("name", SMALL)
def test_an_adapter_fits_two_megabytes_and_all_of_it_learns(name: str) -> None:
    plan = replace(SMALL[name](), batch=4, precision=torch.float32)
    trained = stage(plan)
    learning = {n: p for n, p in trained.modules().named_parameters() if p.requires_grad}
    additions = plan.recipe.additions or Additions()
    saved = {
        name: p
        for name, p in trained.modules().named_parameters()
        if p.requires_grad or additions.own(name.removeprefix("model."))
    }
    new = sum(p.numel() for n, p in saved.items() if not n.endswith("model.patch_embedding.weight"))
    channels = sum(additions.channels.values())
    assert 2 * (new + channels * 4 * plan.recipe.transformer.dim) < 1_950_000  # bytes of bfloat16, and a header
    for parameter in learning.values():
        nn.init.normal_(parameter, std=0.02)
    trained.loss(trained.batch(0)).total.backward()
    assert [n for n, p in learning.items() if p.grad is None] == []


@pytest.mark.parametrize("name", PLANS)
def test_step_by_step_the_base_stays_as_it_was(name: str) -> None:
    plan = replace(PLANS[name](), batch=4, precision=torch.float32)
    before = {n: p.clone() for n, p in parts().transformer(torch.float32, CPU).named_parameters()}
    stage(plan)
    for each, parameter in parts().transformer(torch.float32, CPU).named_parameters():
        assert torch.equal(parameter, before[each]) and not parameter.requires_grad


def test_a_batch_is_that_of_its_step_whoever_makes_it() -> None:
    plan = short()
    whole, again = (stage(plan).batch(2) for _ in range(2))
    assert all(torch.equal(a.x, b.x) and torch.equal(a.target, b.target) for a, b in zip(whole, again, strict=True))
    losses = [stage(plan, Rank(index, 2)) for index in range(2)]
    halves = [float(each.loss(each.batch(2)).total.detach()) for each in losses]
    assert np.mean(halves) == pytest.approx(float(stage(plan).loss(whole).total.detach()), rel=1e-5)


def test_a_training_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    whole = train_adapter(short(), parts(), tmp_path / "whole", QUIET)
    with_budget = replace(QUIET, seconds=1e-9, save_every=1)
    train_adapter(short(), parts(), tmp_path / "parts", with_budget)
    rest = train_adapter(short(), parts(), tmp_path / "parts", QUIET)
    assert rest.report["steps"] == whole.report["steps"] == 3
    for one, two in zip(whole.transformer.parameters(), rest.transformer.parameters(), strict=True):
        assert torch.equal(one, two)
    assert set(adapters_of(rest.transformer)) == {"in_context"}
    assert bare(rest.transformer).spec.branches[0].name == "references"


def test_another_model_is_another_training(tmp_path: Path) -> None:
    train_adapter(short(), parts(), tmp_path, QUIET)
    with refused("checkpoint_of_other_plan", "base_hash"):
        train_adapter(short(), replace(parts(), fingerprint=lambda: "another"), tmp_path, QUIET)


def test_samples_are_a_function_of_seed_and_step() -> None:
    video = VideoSize(num_frames=5, height=32, width=32)
    for plan in PLANS.values():
        one, again, other = (plan().samples.draw(step, 6, video) for step in (1, 1, 2))
        assert all(np.array_equal(a.video, b.video) and a.prompt == b.prompt for a, b in zip(one, again, strict=True))
        assert not all(np.array_equal(a.video, b.video) for a, b in zip(one, other, strict=True))


META = torch.device("meta")


def brief(name: str) -> AdapterPlan:
    """A plan with small batches of short videos."""
    plan = PLANS[name]()
    return replace(plan, batch=2, precision=torch.float32, recipe=replace(plan.recipe, num_frames=5))


@pytest.mark.parametrize("name", ["frames", "vace"])
def test_an_adapter_learns_on_a_device_while_its_base_is_asked_on_the_cpu(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device "meta" stands for an accelerator: what meets it from the CPU fails."""
    plan = brief(name)
    there, here = stage(plan), stage(plan)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: x if x.device == CPU else torch.zeros(x.shape, dtype=x.dtype))
    adam = torch.optim.AdamW  # whose fused form knows real devices only
    monkeypatch.setattr("torch.optim.AdamW", lambda parameters, fused, **options: adam(parameters, **options))
    learner = Learner(there.modules().to(META).train(), plan.training, SingleProcess())
    for step in range(2):
        batch = there.batch(step)
        for one, two in zip(batch, here.batch(step), strict=True):
            assert torch.equal(one.target, two.target), "what the base says of it"
        loss = learner.gradients([there.loss(moved(batch, META)).total])
        assert learner.clipped().device == loss.device == META
        learner.apply(step, 1.0)
    assert {each.device for each in there.modules().parameters()} == {META}


def test_an_adapter_that_is_cast_leaves_its_base_and_the_pipeline_alone() -> None:
    plan = brief("frames")
    trained = stage(plan)
    expected = stage(plan).batch(1)
    trained.modules().to(torch.float64)
    assert {each.dtype for each in parts().transformer(torch.float32, CPU).parameters()} == {torch.float32}
    for one, two in zip(trained.batch(1), expected, strict=True):
        assert torch.equal(one.target, two.target)


def test_until_it_is_moved_an_adapter_shares_the_memory_of_its_base() -> None:
    base = {each.data_ptr() for each in parts().transformer(torch.float32, CPU).parameters()}
    found = {each.data_ptr() for each in stage(short()).modules().parameters()}
    assert len(found & base) >= len(base) - 1, "all but the patch embedding, which may be widened"
