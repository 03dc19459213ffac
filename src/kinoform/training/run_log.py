"""Records of the trainings in a run folder, also while they run, after a kill, and where files are damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from kinoform.errors import UsageError
from kinoform.training.metrics import Measurement, parse_metrics

LOG, LEVELS, VALIDATION, MACHINE, SAMPLES = (
    "losses.jsonl", "levels.jsonl", "validation.jsonl", "machine.jsonl", "samples",
)  # fmt: skip
PLACES = (f"{LOG}", f"*/{LOG}", f"*/*/{LOG}")
TOTAL = "training.schedule.total"
T = TypeVar("T")
_SAMPLE = re.compile(r"(?:step-)?(\d+)(?:-(.+))?\.(png|jpg|webp|gif|mp4)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelStep:
    """Samples of one step by equal parts of the noise levels [0, 1]: how many, and their mean loss (None of none)."""

    step: int
    count: tuple[int, ...]
    loss: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationStep:
    """Mean loss of the held-out clips after `step` steps, at each noise level of `sigma`."""

    step: int
    sigma: tuple[float, ...]
    loss: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineStep:
    """Peak memory in bytes until this step, and the share of the device's peak operations a second, where known."""

    step: int
    memory: int
    mfu: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFile:
    """File of samples after `step` steps; several of one step have different names."""

    step: int
    name: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLog:
    """One training of a run: `asked` is the share of levels in each part of [0, 1] that its settings mean.

    `damaged` lines of its log could not be read. `settings` are empty before the first checkpoint, and `total`,
    the number of steps that are planned, is None.
    """

    name: str
    measurements: tuple[Measurement, ...]
    damaged: int
    settings: Mapping[str, str] = field(repr=False)
    levels: tuple[LevelStep, ...] = ()
    asked: tuple[float, ...] = ()
    validation: tuple[ValidationStep, ...] = ()
    machine: tuple[MachineStep, ...] = ()
    samples: tuple[SampleFile, ...] = ()

    @property
    def total(self) -> int | None:
        number = self.settings.get(TOTAL, "")
        return int(number) if number.isdecimal() else None

    @property
    def skipped(self) -> tuple[int, ...]:
        """Steps whose loss or gradient was not finite."""
        return tuple(item.step for item in self.measurements if item.loss is None or item.gradient_norm is None)


def read_run(folder: Path) -> tuple[StageLog, ...]:
    """Read all trainings of a run, in the order in which they began. Raises UsageError for a folder without any."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give that of a run, as runs/mini", code="not_a_folder")
    paths = sorted({path for place in PLACES for path in folder.glob(place)})
    stages = [_stage(path.parent, folder) for path in paths]
    if not stages:
        raise UsageError(
            f"no training has written {LOG} below {folder}; give the folder of a run, as runs/mini",
            code="run_without_log",
        )
    return tuple(stages)


def _stage(folder: Path, run: Path) -> StageLog:
    text = _text(folder / LOG)
    measurements = tuple(_ordered(parse_metrics(text)))
    damaged = sum(bool(line.strip()) for line in text.split("\n")) - len(measurements)
    return StageLog(
        name=folder.name if folder == run else folder.relative_to(run).as_posix(),
        measurements=measurements,
        damaged=damaged,
        settings=_settings(folder / "checkpoints"),
        levels=tuple(_read(folder / LEVELS, _level_step)),
        asked=next(reversed(list(_read(folder / LEVELS, _asked))), ()),
        validation=tuple(_read(folder / VALIDATION, _validation_step)),
        machine=tuple(_read(folder / MACHINE, _machine_step)),
        samples=tuple(sorted(_samples(folder / SAMPLES), key=lambda item: (item.step, item.name))),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _ordered(measurements: list[Measurement]) -> Iterator[Measurement]:
    """Yield those with numbers in all fields whose steps rise, as `Log` keeps them."""
    last = -1
    for item in measurements:
        numbers = item.samples, item.learning_rate, item.seconds, item.flops
        bounded = item.loss, item.gradient_norm
        if item.step > last and all(map(_number, numbers)) and all(map(_number_or_none, bounded)):
            last = item.step
            loss, norm = (None if value is None else float(value) for value in bounded)
            yield replace(
                item, loss=loss, gradient_norm=norm, learning_rate=float(item.learning_rate),
                seconds=float(item.seconds), flops=float(item.flops),
            )  # fmt: skip


def _number(value: object) -> bool:
    return type(value) in (int, float) and isfinite(value)  # pyright: ignore[reportArgumentType]


def _number_or_none(value: object) -> bool:
    return value is None or _number(value)


def _read(path: Path, make: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    """Yield what `make` makes of the lines of a file; those that are damaged, or of another kind, are left out."""
    for line in _text(path).split("\n"):
        try:
            yield make(json.loads(line))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            continue


def _level_step(values: dict[str, Any]) -> LevelStep:
    loss = tuple(None if value is None else float(value) for value in values["loss"])
    return LevelStep(step=int(values["step"]), count=tuple(map(int, values["count"])), loss=loss)


def _asked(values: dict[str, Any]) -> tuple[float, ...]:
    return tuple(map(float, values["asked"]))


def _validation_step(values: dict[str, Any]) -> ValidationStep:
    sigma, loss = (tuple(map(float, values[name])) for name in ("sigma", "loss"))
    if len(sigma) != len(loss) or not all(map(isfinite, loss)):
        raise ValueError(loss)
    return ValidationStep(step=int(values["step"]), sigma=sigma, loss=loss)


def _machine_step(values: dict[str, Any]) -> MachineStep:
    mfu = values.get("mfu")
    return MachineStep(step=int(values["step"]), memory=int(values["memory"]), mfu=None if mfu is None else float(mfu))


def _settings(checkpoints: Path) -> dict[str, str]:
    """Return the settings in the newest manifest that can be read."""
    for path in sorted(checkpoints.glob("step-*/manifest.json"), reverse=True):
        try:
            settings = json.loads(_text(path))["fingerprint"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(settings, dict):
            return {str(name): str(value) for name, value in settings.items()}
    return {}


def _samples(folder: Path) -> Iterator[SampleFile]:
    for path in folder.glob("*"):
        match = _SAMPLE.fullmatch(path.name)
        if match is not None and path.is_file():
            yield SampleFile(step=int(match[1]), name=match[2] or "", path=path)
