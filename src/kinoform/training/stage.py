"""The values of a training: a stage says what is trained and on what, a spec and options say how."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.ops.flops import count_flops
from kinoform.training.devices import CPU, check_device
from kinoform.training.distributed import Rank
from kinoform.training.ema import EMASpec
from kinoform.training.observe import Observer, StepLoss
from kinoform.training.optimizer import CosineSchedule, OptimizerSpec, Schedule
from kinoform.training.precision import StochasticRounding
from kinoform.training.recompute import Recompute


@runtime_checkable
class Stage(Protocol):
    """Module that is trained, its batches and its loss."""

    @property
    def config(self) -> object:
        """All that decides the outcome, seeds included, as frozen dataclasses and plain values."""
        ...

    def samples(self, step: int) -> int:
        """Return the number of samples of a step, of all processes together."""
        ...

    def flops(self, step: int) -> float:
        """Return the floating-point operations of a step; see `step_flops`."""
        ...

    def modules(self) -> nn.Module:
        """Return the module that is trained: always the same object, its first weights a function of `config`."""
        ...

    def batch(self, step: int) -> Any:
        """Data, noise and levels of one step: a pure function of the step's index and of seeds in `config`.

        In a group of processes it is a part of that step's data, of equal size in every process; `samples` and `flops`
        count the whole. It must not touch the global generators; it is called once ahead of the step.
        It is made on the CPU, whatever the device, as tensors in dictionaries, lists, tuples and dataclasses.
        """
        ...

    def loss(self, batch: Any) -> StepLoss | Float[Tensor, ""]:
        """Return the loss, on the device where the modules and the batch are: its number, or one by samples too."""
        ...


@runtime_checkable
class NamedStage(Stage, Protocol):
    """Stage whose samples have names, by which messages and reports call them."""

    def names(self, step: int) -> Sequence[str]:
        """Return those of all samples of a step, of all processes together."""
        ...


@runtime_checkable
class SampledStage(Stage, Protocol):
    """Stage whose averaged weights can be looked at while it is trained."""

    def sample(self, step: int, folder: Path) -> None:
        """Show what they make after `step` steps, in files below `folder`."""
        ...


def step_flops(loss: Callable[[Any], StepLoss | Tensor], batch: Any, rank: Rank | None = None) -> float:
    """Count the floating-point operations of a step in all processes: three times those of the loss of a batch."""
    return 3.0 * (rank or Rank()).world_size * count_flops(lambda: loss(batch))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """Settings that decide the weights, beside the stage. `schedule.total` is the number of steps.

    `clip` bounds the gradients' common norm. After `patience` steps in a row without a finite loss and
    gradient the training gives up. `seed` starts the global generators, which only dropout should need.
    With `accumulate` that many batches of the stage make one step, as if they were one large batch: each counts by the
    number of its samples. Step n has the batches from n * accumulate on. What
    learns in less than float32 has a float32 copy, or with `rounding` is rounded at random.
    """

    schedule: Schedule | CosineSchedule
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    ema: EMASpec = field(default_factory=EMASpec)
    clip: float = 1.0
    patience: int = 10
    seed: int = 0
    accumulate: int | None = None
    rounding: StochasticRounding | None = None

    def __post_init__(self) -> None:
        if not self.clip > 0 or self.patience < 1 or (self.accumulate is not None and self.accumulate < 1):
            raise UsageError(
                "clip must be above 0, patience and accumulate at least 1; "
                f"got {self.clip}, {self.patience} and {self.accumulate}",
                code="value_out_of_range",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of a run, which do not change what is trained: all intervals are in steps.

    `seconds` is the wall-clock budget over all runs together; when it is spent the training saves and
    returns. `sample_every` 0 shows no samples. `on_progress` is called after every step with the name of the
    training's folder, the steps done, and all of them. `device` and `compile`, which has the stage's module
    compiled by PyTorch and so speeds up what calls it, change the last bits of the losses only; a run may go
    on with others. Without a checkpoint, a training begins from the stage of its folder's name in `snapshot`, a folder
    of `write_snapshot`, if it is there. `observers` are told of each step. `recompute` and
    `swap_blocks` (see `place`) save memory for time. Raises UsageError for a device that is not there.
    """

    save_every: int = 500
    keep: int = 2
    sample_every: int = 0
    seconds: float | None = None
    show_progress: bool = True
    on_progress: Callable[[str, int, int], None] | None = None
    device: torch.device = CPU
    compile: bool = False
    snapshot: Path | None = None
    observers: tuple[Observer, ...] = ()
    recompute: Recompute = Recompute.NONE
    swap_blocks: int = 0

    def __post_init__(self) -> None:
        if self.save_every < 1 or self.keep < 1 or self.sample_every < 0 or self.swap_blocks < 0:
            raise UsageError(
                "save_every and keep must be at least 1, sample_every and swap_blocks at least 0; got "
                f"{self.save_every}, {self.keep}, {self.sample_every} and {self.swap_blocks}",
                code="value_out_of_range",
            )
        check_device(self.device)
