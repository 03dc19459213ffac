"""Observers that write down a training: losses by noise level, memory and MFU, TensorBoard and other trackers."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kinoform.files import whole
from kinoform.training.levels import Levels, level_shares
from kinoform.training.observe import RunView, StepReport
from kinoform.training.run_log import LEVELS, MACHINE

BINS = 10
DRAWN = 20_000
"""Levels that are drawn to tell the share of each bin that settings mean."""

MEMORY_EVERY = 10
PEAKS: Mapping[str, float] = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12,
    "L4": 121e12, "A10": 125e12, "RTX 5090": 209e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip
"""Dense products in bfloat16, operations a second, by a part of a device's name; from the makers' data sheets."""


class StepFile:
    """File of JSON lines, one or more a step. At the first line it drops those of its step and later ones."""

    def __init__(self, path: Path) -> None:
        self._path, self._begun = path, False

    def write(self, step: int, values: Mapping[str, object]) -> None:
        """Append a line. Raises OSError where it cannot be written."""
        if not self._begun and self._path.exists():
            kept = [line for line in self._path.read_text(encoding="utf-8", errors="replace").split("\n")
                    if (number := _step(line)) is not None and number < step]  # fmt: skip
            with whole(self._path, force=True) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._begun = True
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")


class LevelLog:
    """Writes levels.jsonl: of each step how many samples were in each tenth of the levels, and their mean loss.

    `asked` are the levels that the settings mean, by the name of the training's folder.
    """

    def __init__(self, asked: Mapping[str, Levels]) -> None:
        self._asked = asked

    def begin(self, run: RunView) -> None:
        """See `Observer`."""
        self._file, self._told = StepFile(run.folder / LEVELS), False

    def step(self, report: StepReport) -> None:
        """See `Observer`."""
        step, levels = report.measurement.step, self._asked.get(report.run.folder.name)
        if report.sigma is None or report.each is None:
            return
        if not self._told and levels is not None:
            drawn = levels.draw((DRAWN,), torch.Generator().manual_seed(0), step)
            self._file.write(step, {"asked": level_shares(drawn, BINS)})
        self._told = True
        count, mean = by_level(report.sigma, report.each)
        self._file.write(step, {"count": count, "loss": mean})

    def end(self, run: RunView) -> None:
        """See `Observer`."""


class MachineLog:
    """Writes machine.jsonl: peak memory every ten steps, and MFU where the peak of the device is known.

    `devices` share the operations of a step.
    """

    def __init__(self, devices: int = 1) -> None:
        self._devices = devices

    def begin(self, run: RunView) -> None:
        """See `Observer`."""
        self._file, self._before = StepFile(run.folder / MACHINE), (0.0, 0.0)
        self._peak = _peak_rate(run.device)

    def step(self, report: StepReport) -> None:
        """See `Observer`."""
        now, memory = report.measurement, _peak_memory(report.run.device)
        flops, seconds = self._before
        if now.step % MEMORY_EVERY or memory is None:
            return
        self._before = now.flops, now.seconds
        rate = (now.flops - flops) / (now.seconds - seconds) if flops and now.seconds > seconds else None
        mfu = None if rate is None or self._peak is None else rate / (self._peak * self._devices)
        self._file.write(now.step, {"memory": memory, "mfu": mfu})

    def end(self, run: RunView) -> None:
        """See `Observer`."""


class TensorBoard:
    """Writes events for TensorBoard below the folder `tensorboard` of each training."""

    def begin(self, run: RunView) -> None:
        """See `Observer`; raises ImportError without the package tensorboard."""
        self._writer: Any = None
        self._make = importlib.import_module("torch.utils.tensorboard").SummaryWriter

    def step(self, report: StepReport) -> None:
        """See `Observer`."""
        step = report.measurement.step
        if self._writer is None:
            self._writer = self._make(str(report.run.folder / "tensorboard"), purge_step=step)
        for name, value in scalars(report).items():
            self._writer.add_scalar(name, value, step)

    def end(self, run: RunView) -> None:
        """See `Observer`."""
        if self._writer is not None:
            self._writer.close()


class Tracker:
    """Logs to a tracker with the functions init, log and finish, as the modules `trackio` and `wandb` have."""

    def __init__(self, module: str, project: str = "kinoform") -> None:
        self._name, self._project = module, project

    def begin(self, run: RunView) -> None:
        """See `Observer`; raises ImportError where it is not installed."""
        self._module: Any = importlib.import_module(self._name)
        self._module.init(project=self._project, name=f"{run.folder.parent.name}-{run.folder.name}")

    def step(self, report: StepReport) -> None:
        """See `Observer`."""
        self._module.log(scalars(report), step=report.measurement.step)

    def end(self, run: RunView) -> None:
        """See `Observer`."""
        self._module.finish()
        del self._module  # it cannot be sent to another process


def by_level(
    sigma: tuple[float, ...], each: tuple[float, ...], bins: int = BINS
) -> tuple[list[int], list[float | None]]:
    """Count samples in equal parts of the levels [0, 1], and take the mean of their losses; None of none.

    Losses that are not finite are counted, and are in no mean.
    """
    held: list[list[float]] = [[] for _ in range(bins)]
    for level, loss in zip(sigma, each, strict=True):
        held[min(int(level * bins), bins - 1)].append(loss)
    finite = [[loss for loss in part if abs(loss) < float("inf")] for part in held]
    return [len(part) for part in held], [sum(part) / len(part) if part else None for part in finite]


def scalars(report: StepReport) -> dict[str, float]:
    """Return the numbers of a step by the names that trackers show them under, without those not finite."""
    now = report.measurement
    told = {
        "loss": now.loss,
        "gradient_norm": now.gradient_norm,
        "learning_rate": now.learning_rate,
        "samples": float(now.samples),
        "samples_per_second": now.samples / now.seconds if now.seconds else None,
    }
    if report.sigma is not None and report.each is not None:
        _, means = by_level(report.sigma, report.each)
        told |= {f"loss_by_level/{n / BINS:.1f}-{(n + 1) / BINS:.1f}": mean for n, mean in enumerate(means)}
    return {name: value for name, value in told.items() if value is not None}


def _step(line: str) -> int | None:
    try:
        step = json.loads(line)["step"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return step if type(step) is int else None


def _peak_memory(device: torch.device) -> int | None:
    """Return the most bytes so far: of PyTorch's tensors on a CUDA device, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:  # Windows has none
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) * (1 if sys.platform == "darwin" else 1024)


def _peak_rate(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for part, rate in PEAKS.items() if part in name), None)
