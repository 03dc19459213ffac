"""A training stage of one's own, in one file: flow matching of any data, here of points on two half moons.

    kinoform train examples.ideas.flow_on_points:plan

A stage says what is trained (`modules`), on what (`batch`) and by which loss; the loop around it resumes, averages,
clips, logs and shares batches between processes (`--processes 2`), and writes runs/points/weights.safetensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.api import (
    LevelSampling,
    OptimizerSpec,
    Rank,
    Schedule,
    StagePlan,
    TrainingSpec,
    flow_matching_loss,
    no_matrix,
    noised,
    seeded,
    step_flops,
    step_generator,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsConfig:
    """All that decides the outcome: another value is another training."""

    width: int = 64
    batch: int = 256
    shift: float = 1.0
    seed: int = 0


class PointsStage:
    """A velocity of two numbers from a point and its noise level; see `kinoform.api.Stage`."""

    def __init__(self, rank: Rank) -> None:
        self.config, self._rank = PointsConfig(), rank
        width = self.config.width
        with seeded(self.config.seed):
            self._net = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
                                      nn.Linear(width, 2))  # fmt: skip
        self._flops = step_flops(self.loss, self.batch(0), rank)

    def samples(self, step: int) -> int:
        return self.config.batch

    def modules(self) -> nn.Module:
        return self._net

    def flops(self, step: int) -> float:
        return self._flops

    def batch(self, step: int) -> dict[str, Tensor]:
        """Points, noise and levels, a function of the step alone; each process takes its part of them."""
        generator, count = step_generator(self.config.seed, step), self.config.batch
        angle, upper = pi * torch.rand(count, generator=generator), torch.rand(count, generator=generator) < 0.5
        moons = torch.stack([angle.cos(), angle.sin()], dim=1)
        whole = {
            "x0": torch.where(upper[:, None], moons, torch.tensor([1.0, 0.5]) - moons),
            "noise": torch.randn(count, 2, generator=generator),
            "sigma": LevelSampling(shift=self.config.shift).draw((count,), generator, step),
        }
        return {name: values[self._rank.slice(count)] for name, values in whole.items()}

    def loss(self, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        x = noised(batch["x0"], batch["noise"], batch["sigma"])
        velocity = self._net(torch.cat([x, batch["sigma"][:, None]], dim=1))
        return flow_matching_loss(velocity, batch["noise"], batch["x0"])


def plan() -> StagePlan:
    """Two thousand steps: seconds of one core."""
    spec = TrainingSpec(schedule=Schedule(warmup=50, total=2000), optimizer=OptimizerSpec(hidden=no_matrix))
    return StagePlan(run_name="points", stage=PointsStage, training=spec)
