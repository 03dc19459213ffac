"""Plans, which `kinoform train` runs: any module may return one, of the package or of one file beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from safetensors.torch import save_file
from torch import nn

from kinoform.files import check_writable, whole
from kinoform.loading.parts import Parts
from kinoform.recipe import Recipe
from kinoform.training.checkpoint import held
from kinoform.training.distributed import ProcessGroup, Rank, SingleProcess, spawn
from kinoform.training.loop import finished
from kinoform.training.stage import RunOptions, Stage, TrainingSpec

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Folder and options of a training; `load_parts` loads the parts of a finished model by its name."""

    folder: Path
    load_parts: Callable[[str], Parts]
    options: RunOptions
    processes: int = 1


@runtime_checkable
class TrainingResult(Protocol):
    """Outcome of a training."""

    @property
    def report(self) -> Mapping[str, object]:
        """The numbers of steps, samples and operations, and what was measured, as plain values."""
        ...

    def save(self, path: Path, *, recipe: str | None, force: bool) -> None:
        """Write it whole or not at all; `recipe` is the address by which the plan's recipe is found later."""
        ...


@runtime_checkable
class TrainingPlan(Protocol):
    """Plan of a training: a value that says what is trained and how. `StagePlan` is the simplest one."""

    @property
    def run_name(self) -> str:
        """The name of the run's folder, where none is given."""
        ...

    @property
    def recipe(self) -> Recipe | None:
        """The recipe of the model that is trained, if it is a model."""
        ...

    @property
    def output_name(self) -> str:
        """The name of what is written, in the run's folder where no other place is given."""
        ...

    def check_output(self, path: Path, *, force: bool) -> None:
        """Raise UsageError when `TrainingResult.save` could not write there."""
        ...

    def train(self, run: TrainingRun) -> TrainingResult:
        """Train below the run's folder, or go on there. Raises what `loop.train` raises."""
        ...


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """Plan of one stage by itself. `stage(rank)` makes it, in each of several processes with a rank of its own."""

    run_name: str
    stage: Callable[[Rank], Stage]
    training: TrainingSpec
    recipe: Recipe | None = None
    output_name: str = "weights.safetensors"

    def check_output(self, path: Path, *, force: bool) -> None:
        check_writable(path, force=force)

    def train(self, run: TrainingRun) -> TrainedModule:
        with held(run.folder):
            return shared(run.processes, _train_stage, run.options, self, run.folder / self.run_name)


@dataclass(frozen=True, kw_only=True)
class TrainedModule:
    """Module of a stage with its averaged weights."""

    module: nn.Module
    report: dict[str, object]

    def save(self, path: Path, *, recipe: str | None, force: bool) -> None:
        """Write its state as safetensors, with the report in the metadata."""
        tensors = {name: tensor.contiguous() for name, tensor in self.module.state_dict().items()}
        with whole(path, force=force) as temporary:
            save_file(tensors, temporary, metadata={"made": json.dumps(self.report)})


def shared(processes: int, work: Callable[..., T], options: RunOptions, *arguments: Any) -> T:
    """Run `work(group, options, *arguments)` in as many processes, then in this one, which reads what they left.

    All of it must be picklable, but for `options.on_progress`, which they do without. Raises what `spawn` raises.
    """
    if processes > 1:
        spawn(processes, work, (replace(options, on_progress=None), *arguments))
    return work(SingleProcess(), options, *arguments)


def _train_stage(group: ProcessGroup, options: RunOptions, plan: StagePlan, folder: Path) -> TrainedModule:
    module, report = finished(plan.stage(group.rank), folder, plan.training, options, group)
    return TrainedModule(module=module, report=report)
