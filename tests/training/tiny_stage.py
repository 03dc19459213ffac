"""A stage that trains in milliseconds; `main` and `share`, trainings in processes of their own to be killed."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kinoform.solvers.levels import noised
from kinoform.training.distributed import ProcessGroup, Rank
from kinoform.training.levels import LevelSampling
from kinoform.training.loop import train
from kinoform.training.objective import flow_matching_loss
from kinoform.training.optimizer import OptimizerSpec, Schedule
from kinoform.training.stage import RunOptions, TrainingSpec


def middle_layer(name: str, parameter: Tensor) -> bool:
    return name == "3.weight"


STEPS = 40
SPEC = TrainingSpec(schedule=Schedule(warmup=5, total=STEPS), optimizer=OptimizerSpec(hidden=middle_layer), patience=3)
OPTIONS = RunOptions(save_every=5, show_progress=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyConfig:
    width: int = 8
    samples: int = 4
    seed: int = 0


def never(step: int) -> None:
    raise AssertionError(f"step {step} is made again")


class TinyStage:
    """Six numbers from noise; the dropout makes the global generator matter. `at` is called at every step."""

    def __init__(
        self, config: TinyConfig | None = None, *, at: Callable[[int], object] | None = None, rank: Rank | None = None
    ) -> None:
        self.config, self._rank = config or TinyConfig(), rank or Rank()
        self.poisoned: dict[int, float] = {}
        self.sampled: list[tuple[int, Tensor]] = []
        self._at = at
        width = self.config.width
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            layers = nn.Linear(7, width), nn.GELU(), nn.Dropout(0.2), nn.Linear(width, width), nn.GELU()
            self.net = nn.Sequential(*layers, nn.Linear(width, 6))

    def samples(self, step: int) -> int:
        return self.config.samples

    def modules(self) -> nn.Module:
        return self.net

    def flops(self, step: int) -> float:
        return 1e3

    def batch(self, step: int) -> tuple[int, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1_000_003 * self.config.seed + step)
        shape = (self.config.samples, 6)
        x0 = torch.rand(shape, generator=generator)
        noise = torch.randn(shape, generator=generator)
        sigma, mine = LevelSampling().draw(shape[:1], generator, step), self._rank.slice(self.config.samples)
        return step, x0[mine], noise[mine], sigma[mine]

    def loss(self, batch: tuple[int, Tensor, Tensor, Tensor]) -> Tensor:
        step, x0, noise, sigma = batch
        if self._at:
            self._at(step)
        velocity = self.net(torch.cat([noised(x0, noise, sigma), sigma[:, None]], dim=1))
        return flow_matching_loss(velocity, noise, x0) * self.poisoned.get(step, 1.0)

    def sample(self, step: int, folder: Path) -> None:
        torch.rand(3)
        self.sampled.append((step, self.net.get_parameter("0.weight").detach().clone()))
        (folder / f"{step}.txt").write_text(f"training: {self.net.training}")


def main() -> None:
    torch.set_num_threads(1)
    train(TinyStage(at=lambda step: time.sleep(0.02)), Path(sys.argv[1]), SPEC, OPTIONS)


def share(group: ProcessGroup, folder: Path, seconds: float) -> None:
    """One process of a team, waiting at each step; it says in the folder which process it is."""
    (folder / f"process-{group.rank.index}").write_text(str(os.getpid()))
    train(TinyStage(at=lambda step: time.sleep(seconds), rank=group.rank), folder, SPEC, OPTIONS, group)
