"""Adapters of several experts: each learns at its own noise levels, from the same base, in a folder of its own."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from kinoform.checkpoints.reader import HeaderReader
from kinoform.errors import Interrupted
from kinoform.loading.adapters import adapter_in
from kinoform.loading.parts import Parts
from kinoform.mini.plans import mini_experts
from kinoform.models.lora import adapters_of
from kinoform.recipes.load import load
from kinoform.solvers.experts import expert_at
from kinoform.training.adapter import CPU, AdapterPlan, train_adapter
from kinoform.training.frozen import FrozenParts
from kinoform.training.metrics import read_metrics
from kinoform.training.snapshot import read_snapshot, write_snapshot
from kinoform.training.stage import RunOptions
from kinoform.training.tuning_stage import AdapterStage
from kinoform.types import Level
from tests.support.expert_recipes import ADDRESS, plan
from tests.support.refusals import refused

QUIET = RunOptions(show_progress=False)


@cache
def parts() -> Parts:
    return load("mini", device="cpu").parts


def stage(made: AdapterPlan, expert: int = 0) -> AdapterStage:
    frozen = FrozenParts(
        codec=parts().codec(CPU), tokenizer=parts().tokenizer(), text_encoder=parts().text_encoder(torch.float32, CPU)
    )
    base = parts().transformer(made.precision, CPU)
    return AdapterStage(made, base, made.examples(frozen), base_hash="of mini", expert=expert)


def test_each_learns_at_the_levels_at_which_it_generates() -> None:
    made = replace(plan(), batch=16)
    for expert in (0, 1):
        (group,) = stage(made, expert).batch(0)
        levels = [Level(sigma=sigma, timestep=1000 * sigma) for sigma in group.sigma.tolist()]
        assert {expert_at(level, made.recipe.boundaries) for level in levels} == {expert}


def test_the_plan_of_one_transformer_takes_a_range_of_levels_too() -> None:
    one = replace(plan().recipe, transformers=plan().recipe.transformers[:1], boundaries=())
    (group,) = stage(replace(plan(), recipe=one, levels=plan().levels.within(0.2, 0.4), batch=16)).batch(0)
    assert group.sigma.min() >= 0.2 and group.sigma.max() < 0.4


def test_two_experts_are_trained_and_saved_as_one_file(tmp_path: Path) -> None:
    trained = train_adapter(plan(), parts(), tmp_path / "adapter", QUIET)
    assert list(trained.report) == ["high", "low"]
    for name in ("high", "low"):
        assert len(read_metrics(tmp_path / f"adapter-{name}" / "losses.jsonl")) == 2
    changes = [adapters_of(model)["experts"] for model in trained.transformers]
    assert changes[0].keys() == changes[1].keys()
    assert not any(torch.equal(one.up, changes[1][place].up) for place, one in changes[0].items())
    path = tmp_path / "experts.safetensors"
    trained.save(path, recipe=ADDRESS, force=False)
    file = adapter_in(path, HeaderReader())
    assert file is not None and {name.partition(".")[0] for name in file.tensors} == {"high", "low"}
    loaded = load(path, recipe=ADDRESS, device="cpu").parts
    base = dict(parts().transformer(torch.float32, CPU).named_parameters())
    for adapters, read in zip(changes, loaded.transformers, strict=True):
        values = dict(read(torch.float32, CPU).named_parameters())
        for name, value in values.items():
            place = name.removesuffix(".weight")
            expected = base[name] + adapters[place].change() if place in adapters else base[name]
            torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-2)  # the file is bfloat16


@pytest.mark.parametrize("stopped_at", [("adapter-high", 1), ("adapter-low", 1)])
def test_stopped_in_either_expert_it_goes_on_there(tmp_path: Path, stopped_at: tuple[str, int]) -> None:
    whole = train_adapter(plan(), parts(), tmp_path / "whole" / "adapter", QUIET)

    def stop(name: str, done: int, total: int) -> None:
        if (name, done) == stopped_at:
            raise Interrupted("stopped by the test", code="interrupted")

    with refused("interrupted"):
        train_adapter(plan(), parts(), tmp_path / "run" / "adapter", replace(QUIET, save_every=1, on_progress=stop))
    rest = train_adapter(plan(), parts(), tmp_path / "run" / "adapter", QUIET)
    for one, two in zip(whole.transformers, rest.transformers, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one.parameters(), two.parameters(), strict=True))


def test_a_snapshot_holds_both(tmp_path: Path) -> None:
    trained = train_adapter(plan(), parts(), tmp_path / "run" / "adapter", QUIET)
    write_snapshot(tmp_path / "run", tmp_path / "kept")
    assert sorted(read_snapshot(tmp_path / "kept")) == ["adapter-high", "adapter-low"]
    again = train_adapter(plan(), parts(), tmp_path / "new" / "adapter", replace(QUIET, snapshot=tmp_path / "kept"))
    assert {name: told["steps"] for name, told in again.report.items()} == {"high": 2, "low": 2}  # type: ignore[index]
    for one, two in zip(trained.transformers, again.transformers, strict=True):
        for pair in zip(one.parameters(), two.parameters(), strict=True):
            torch.testing.assert_close(*pair, atol=1e-3, rtol=1e-3)  # kept in float16


def test_the_plan_of_mini_experts_fits_its_file() -> None:
    modules = stage(replace(mini_experts(), batch=2, precision=torch.float32)).modules()
    learning = sum(parameter.numel() for parameter in modules.parameters() if parameter.requires_grad)
    assert 2 * 2 * learning < 1_480_000  # bytes of bfloat16, of both
