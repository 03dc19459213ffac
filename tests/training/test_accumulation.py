"""Several batches make one step, exactly as the large batch of all their samples would; a step names its samples."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kinoform.training.loop import train
from kinoform.training.metrics import read_metrics
from kinoform.training.observe import RunView, StepLoss, StepReport
from kinoform.training.optimizer import OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import RunOptions, TrainingSpec
from tests.support.refusals import refused

STEPS = 6
SPEC = TrainingSpec(schedule=Schedule(warmup=2, total=STEPS), optimizer=OptimizerSpec(hidden=no_matrix), patience=2)
OPTIONS = RunOptions(save_every=2, show_progress=False)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Samples of each batch, in turn."""

    sizes: tuple[int, ...]


class Points:
    """Numbers from other numbers, in batches of several sizes that follow each other in one sequence of samples."""

    def __init__(self, *sizes: int) -> None:
        self.config = Sizes(sizes=sizes)
        self.poisoned: set[int] = set()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 3))

    def samples(self, step: int) -> int:
        return self.config.sizes[step % len(self.config.sizes)]

    def flops(self, step: int) -> float:
        return 10.0 * self.samples(step)

    def modules(self) -> nn.Module:
        return self.net

    def names(self, step: int) -> list[str]:
        first = sum(self.samples(before) for before in range(step))
        return [f"clip {number}" for number in range(first, first + self.samples(step))]

    def batch(self, step: int) -> tuple[int, Tensor]:
        everything = torch.randn(200, 5, generator=torch.Generator().manual_seed(3))
        first = sum(self.samples(before) for before in range(step))
        return step, everything[first : first + self.samples(step)]

    def loss(self, batch: tuple[int, Tensor]) -> StepLoss:
        step, x = batch
        each = (self.net(x) - x[:, :3].flip(1)).square().mean(1)
        scale = float("nan") if step in self.poisoned else 1.0
        return StepLoss(total=each.mean() * scale, sigma=x[:, 0], each=each.detach())


def trained(stage: Points, folder: Path, accumulate: int | None, options: RunOptions = OPTIONS) -> dict[str, Tensor]:
    train(stage, folder, replace(SPEC, accumulate=accumulate), options)
    return {name: weight.detach().clone() for name, weight in stage.net.named_parameters()}


@pytest.mark.parametrize("sizes", [(4, 4, 4), (1, 6, 3)])
def test_three_batches_are_one_large_batch(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """Unequal ones too: each counts by its samples."""
    parts, whole = trained(Points(*sizes), tmp_path / "parts", 3), trained(Points(sum(sizes)), tmp_path / "whole", None)
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, rtol=0, atol=1e-6)
    logs = [read_metrics(tmp_path / name / "losses.jsonl") for name in ("parts", "whole")]
    for part, all_ in zip(*logs, strict=True):
        assert part.loss == pytest.approx(all_.loss, rel=1e-5)
        assert part.gradient_norm == pytest.approx(all_.gradient_norm, rel=1e-5)
        assert (part.samples, part.flops) == (all_.samples, all_.flops)


def test_a_stop_between_steps_loses_nothing(tmp_path: Path) -> None:
    peaceful = trained(Points(1, 6, 3), tmp_path / "peaceful", 2)
    trained(Points(1, 6, 3), tmp_path / "stopped", 2, replace(OPTIONS, seconds=1e-9))
    assert len(read_metrics(tmp_path / "stopped" / "losses.jsonl")) < STEPS
    resumed = trained(Points(1, 6, 3), tmp_path / "stopped", 2)
    assert all(torch.equal(resumed[name], weight) for name, weight in peaceful.items())
    with refused("checkpoint_of_other_plan", "accumulate"):
        trained(Points(1, 6, 3), tmp_path / "stopped", 3)


def test_a_bad_batch_of_several_skips_the_step_and_names_its_samples(tmp_path: Path) -> None:
    stage = Points(1, 2)
    stage.poisoned = {3}
    with pytest.warns(UserWarning, match=r"\(clip 3, clip 4, clip 5\) gave loss nan.*skipped \(1 so far\)"):
        trained(stage, tmp_path / "once", 2)
    stage = Points(1, 2)
    stage.poisoned = {2, 5}
    with pytest.warns(UserWarning, match="skipped"), refused("training_not_finite", "clip 6, clip 7, clip 8"):
        trained(stage, tmp_path / "again", 2)


class Witness:
    """Keeps what it is told; `fails` at a step."""

    def __init__(self, fails: int | None = None) -> None:
        self.said: list[str] = []
        self.reports: list[StepReport] = []
        self.fails = fails

    def begin(self, run: RunView) -> None:
        self.said.append("begin")

    def step(self, report: StepReport) -> None:
        torch.rand(3)
        if report.measurement.step == self.fails:
            raise ZeroDivisionError
        self.reports.append(report)
        with report.run.averaged() as module:
            assert not module.training
            self.said.append(f"{next(module.parameters()).sum().item():.6f}")

    def end(self, run: RunView) -> None:
        self.said.append("end")


@pytest.fixture
def witness() -> Iterator[Witness]:
    yield Witness()


def test_observers_see_every_sample_and_change_nothing(tmp_path: Path, witness: Witness) -> None:
    alone = trained(Points(1, 6), tmp_path / "alone", 2)
    seen = trained(Points(1, 6), tmp_path / "seen", 2, replace(OPTIONS, observers=(witness,)))
    assert all(torch.equal(seen[name], weight) for name, weight in alone.items())
    assert (witness.said[0], witness.said[-1], len(witness.reports)) == ("begin", "end", STEPS)
    report, stage = witness.reports[1], Points(1, 6)
    assert list(report.names()) == [f"clip {number}" for number in range(7, 14)]
    assert report.sigma == tuple(torch.cat([stage.batch(n)[1][:, 0] for n in (2, 3)]).tolist())
    assert report.each is not None
    assert sum(report.each) / 7 == pytest.approx(report.measurement.loss, rel=1e-5)


def test_an_observer_that_fails_is_left_out(tmp_path: Path, witness: Witness) -> None:
    other = Witness(fails=2)
    with pytest.warns(UserWarning, match="Witness failed and is left out: ZeroDivisionError"):
        trained(Points(4), tmp_path, None, replace(OPTIONS, observers=(other, witness)))
    assert len(witness.reports) == STEPS
    assert len(other.reports) == 2
    assert "end" not in other.said
