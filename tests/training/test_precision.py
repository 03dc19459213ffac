"""Updates of bfloat16 weights are not lost; checkpoints hold what learns, and know the rest by its hash."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kinoform.training import checkpoint
from kinoform.training.checkpoint import fingerprint, latest
from kinoform.training.distributed import SingleProcess
from kinoform.training.ema import EMASpec
from kinoform.training.learner import Learner
from kinoform.training.loop import train
from kinoform.training.optimizer import AdamSpec, OptimizerSpec, Schedule, no_matrix
from kinoform.training.precision import StochasticRounding, stochastically_rounded
from kinoform.training.stage import RunOptions, TrainingSpec
from tests.support.refusals import refused

SPEC = TrainingSpec(
    schedule=Schedule(warmup=0, total=200, hold=1.0),
    optimizer=OptimizerSpec(adam=AdamSpec(learning_rate=1e-5), hidden=no_matrix),
)


def weights() -> Tensor:
    return (0.02 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))).bfloat16()


def pushed(rounding: StochasticRounding | None) -> tuple[Tensor, Tensor]:
    """Move by the learning rate, always in one direction: the module's weights and those in float32 afterwards."""
    module = nn.Linear(64, 64, bias=False, dtype=torch.bfloat16)
    module.weight.data.copy_(weights())
    learner = Learner(module, replace(SPEC, rounding=rounding), SingleProcess())
    for step in range(200):
        learner.gradients([-module.weight.float().sum()])
        learner.apply(step, 1.0)
    return module.weight.detach().float(), learner.masters.parameters["weight"].detach()


def test_plain_bfloat16_loses_updates_and_ours_does_not() -> None:
    """The mean move, as a share of 200 steps of 1e-5."""
    plain = weights()
    for _ in range(200):
        plain += 1e-5
    before, ideal = weights().float(), 200 * 1e-5

    def share(after: Tensor) -> float:
        return float((after.float() - before).mean()) / ideal

    assert share(plain) < 0.2
    assert float((plain.float() == before).float().mean()) > 0.8, "most never move"
    rounded, masters = pushed(None)
    assert share(masters) == pytest.approx(1, abs=1e-3)
    assert share(rounded) == pytest.approx(1, abs=0.02)
    assert torch.equal(rounded, masters.bfloat16().float())
    assert share(pushed(StochasticRounding())[0]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("rounding", [None, StochasticRounding()])
def test_the_average_follows_float32_and_not_what_it_is_rounded_to(rounding: StochasticRounding | None) -> None:
    """An average of rounded weights would be off by about what rounding to bfloat16 is."""
    module = nn.Linear(64, 64, bias=False, dtype=torch.bfloat16)
    module.weight.data.copy_(weights())
    learner = Learner(module, replace(SPEC, rounding=rounding, ema=EMASpec(decay=0.5, every=1)), SingleProcess())
    average, before = weights().double(), weights().double()
    for step in range(20):
        learner.gradients([-module.weight.float().sum()])
        before = before if rounding is None else module.weight.detach().double()
        learner.apply(step, 1.0)
        before = before + 1e-5  # Adam's step where a gradient stays the same
        keep = min(0.5, (1 + step) / (10 + step))
        average = keep * average + (1 - keep) * before
    torch.testing.assert_close(learner.ema.tensors["weight"].double(), average, rtol=0, atol=1e-7)


def test_random_rounding_is_right_in_the_mean_and_leaves_bfloat16_alone() -> None:
    generator, value = torch.Generator().manual_seed(1), torch.tensor([1.0 + 2**-9, -3.0 - 2**-10])
    many = torch.stack([stochastically_rounded(value, generator).float() for _ in range(4000)])
    assert all(len(set(column.tolist())) == 2 for column in many.T)
    torch.testing.assert_close(many.mean(0), value, rtol=0, atol=5e-4)
    assert torch.equal(stochastically_rounded(weights().float(), generator), weights())


@dataclass(frozen=True, kw_only=True)
class Partly:
    """Config of a stage that learns a little of a large module."""

    precision: torch.dtype = torch.bfloat16


class Large(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.base = nn.Linear(64, 64).requires_grad_(False)
            self.learns = nn.Linear(64, 2, dtype=torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return self.learns(self.base(x).bfloat16())


class PartlyStage:
    def __init__(self, seed: int = 0) -> None:
        self.config, self.net = Partly(), Large(seed)

    def samples(self, step: int) -> int:
        return 4

    def flops(self, step: int) -> float:
        return 1.0

    def modules(self) -> nn.Module:
        return self.net

    def batch(self, step: int) -> Tensor:
        return torch.randn(4, 64, generator=torch.Generator().manual_seed(step))

    def loss(self, batch: Tensor) -> Tensor:
        return (self.net(batch).float() - batch[:, :2]).square().mean()


SHORT = replace(SPEC, schedule=Schedule(warmup=1, total=8), optimizer=OptimizerSpec(hidden=no_matrix))
OPTIONS = RunOptions(save_every=3, show_progress=False)


def learnt(stage: PartlyStage) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in stage.net.learns.parameters()]


@pytest.mark.parametrize("rounding", [None, StochasticRounding()])
def test_a_checkpoint_holds_what_learns_and_goes_on(tmp_path: Path, rounding: StochasticRounding | None) -> None:
    spec, whole, first = replace(SHORT, rounding=rounding), PartlyStage(), PartlyStage()
    train(whole, tmp_path / "whole", spec, OPTIONS)
    train(first, tmp_path / "parts", spec, replace(OPTIONS, seconds=1e-9))
    state = latest(tmp_path / "parts" / "checkpoints")
    assert state is not None
    assert set(state.state["learner"]["model"]) == {"learns.weight", "learns.bias"}
    resumed = PartlyStage()
    train(resumed, tmp_path / "parts", spec, OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(learnt(resumed), learnt(whole), strict=True))
    with refused("checkpoint_of_other_base"):
        train(PartlyStage(seed=1), tmp_path / "parts", spec, OPTIONS)


def test_a_checkpoint_that_holds_the_base_goes_on_as_before(tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    stage = PartlyStage()
    train(stage, tmp_path / "whole", SHORT, OPTIONS)
    train(PartlyStage(), tmp_path / "old", SHORT, replace(OPTIONS, seconds=1e-9))
    found = latest(tmp_path / "old" / "checkpoints", fingerprint({"stage": Partly(), "training": SHORT}))
    assert found is not None
    del found.state["learner"]["base"]
    found.state["learner"]["model"].update({f"base.{n}": p.detach() for n, p in stage.net.base.named_parameters()})
    checkpoint.save(tmp_path / "old" / "checkpoints", found)
    resumed = PartlyStage()
    train(resumed, tmp_path / "old", SHORT, OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(learnt(resumed), learnt(stage), strict=True))
