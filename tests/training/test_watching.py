"""Observers that write down a training: what they write, also after an interruption, and what they leave alone."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.solvers.levels import noised
from kinoform.training.levels import LevelSampling
from kinoform.training.loop import train
from kinoform.training.metrics import read_metrics
from kinoform.training.observe import Observer, StepLoss
from kinoform.training.run_log import StageLog, read_run
from kinoform.training.stage import RunOptions
from kinoform.training.watching import LevelLog, MachineLog, TensorBoard, Tracker, by_level
from tests.training.tiny_stage import OPTIONS, SPEC, STEPS, TinyStage


class Telling(TinyStage):
    """A tiny stage that tells levels and losses of its samples."""

    def loss(self, batch: tuple[int, Tensor, Tensor, Tensor]) -> StepLoss:  # pyright: ignore[reportIncompatibleMethodOverride]
        _, x0, noise, sigma = batch
        with torch.no_grad():
            velocity = self.net(torch.cat([noised(x0, noise, sigma), sigma[:, None]], dim=1))
            each = (velocity - (noise - x0)).square().mean(1)
        return StepLoss(total=super().loss(batch), sigma=sigma, each=each)


class Broken:
    def begin(self, run: object) -> None: ...

    def step(self, report: object) -> None:
        torch.rand(7)
        raise RuntimeError("broken")

    def end(self, run: object) -> None: ...


def watched(folder: Path, *observers: Observer, stage: TinyStage | None = None, spec: Any = SPEC) -> StageLog:
    train(stage or Telling(), folder / "tiny", spec, replace(OPTIONS, observers=observers))
    (log,) = read_run(folder)
    return log


def test_levels_and_losses_of_all_steps_are_written_once_after_an_interruption(tmp_path: Path) -> None:
    asked = {"tiny": LevelSampling()}
    whole = watched(tmp_path / "whole", LevelLog(asked), MachineLog())
    halves = RunOptions(save_every=5, show_progress=False, observers=(LevelLog(asked), MachineLog()))

    def stop(step: int) -> None:
        if step == 23:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Telling(at=stop), tmp_path / "halves" / "tiny", SPEC, halves)
    train(Telling(), tmp_path / "halves" / "tiny", SPEC, halves)
    (log,) = read_run(tmp_path / "halves")
    assert [item.step for item in log.levels] == list(range(STEPS))
    assert (log.levels, log.asked) == (whole.levels, whole.asked)
    assert all(sum(item.count) == 4 for item in log.levels) and sum(log.asked) == pytest.approx(1)
    assert [item.step for item in log.machine] == list(range(0, STEPS, 10))
    assert all(item.memory > 10**7 and item.mfu is None for item in log.machine)


def test_what_is_trained_is_the_same_with_observers_and_where_one_fails(tmp_path: Path) -> None:
    plain = watched(tmp_path / "plain")
    with pytest.warns(UserWarning, match="Broken failed and is left out"):
        seen = watched(tmp_path / "seen", Broken(), LevelLog({}))
    assert [item.loss for item in seen.measurements] == [item.loss for item in plain.measurements]
    assert len(seen.levels) == STEPS and seen.asked == () and plain.levels == ()


def test_a_stage_that_tells_no_levels_has_none(tmp_path: Path) -> None:
    assert watched(tmp_path, LevelLog({"tiny": LevelSampling()}), stage=TinyStage()).levels == ()


def test_losses_fall_into_the_bin_of_their_level() -> None:
    counts, means = by_level((0.0, 0.05, 0.51, 1.0, 0.55), (1.0, 2.0, 4.0, 5.0, float("nan")))
    assert counts == [2, 0, 0, 0, 0, 2, 0, 0, 0, 1]
    assert means == [1.5, None, None, None, None, 4.0, None, None, None, 5.0]


def test_trackers_are_told_numbers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, Any]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            told.append(("open", (Path(folder).name, purge_step)))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, (step, value)))

        def close(self) -> None:
            told.append(("close", None))

    board, tracker = ModuleType("torch.utils.tensorboard"), ModuleType("trackio")
    board.__dict__["SummaryWriter"] = Writer
    tracker.__dict__.update(
        init=lambda **words: told.append(("init", words)),
        log=lambda values, step: told.append(("log", (step, values))),
        finish=lambda: told.append(("finish", None)),
    )
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    stage = Telling()
    stage.poisoned[3] = float("nan")
    with pytest.warns(UserWarning, match="its step was skipped"):
        watched(tmp_path, TensorBoard(), Tracker("trackio"), stage=stage)
    names = [name for name, _ in told]
    losses = {step: value for name, value in told if name == "loss" for step, value in [value]}
    entries = read_metrics(tmp_path / "tiny" / "losses.jsonl")
    assert losses == {entry.step: entry.loss for entry in entries if entry.loss is not None} and 3 not in losses
    assert told[names.index("open")][1] == ("tensorboard", 0) and names.count("log") == STEPS
    assert {"close", "finish", "loss_by_level/0.9-1.0", "learning_rate", "samples_per_second"} <= set(names)
    assert json.dumps([value for name, value in told if name == "log"], allow_nan=False)
