"""`kinoform train --track`: who is told, and which trackers are refused before anything is read."""

import pytest

from kinoform.cli import train_watchers
from kinoform.cli.train_watchers import watchers
from kinoform.mini.plans import vace
from kinoform.training.watching import LevelLog, MachineLog, TensorBoard, Tracker
from tests.support.refusals import refused


def kinds(track: str | None) -> list[type]:
    return [type(observer) for observer in watchers(vace(), track, 1)]


def test_tensorboard_is_told_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [LevelLog, MachineLog]
    monkeypatch.setattr(train_watchers, "find_spec", lambda name: object())
    assert kinds(None) == kinds("tensorboard") == [*files, TensorBoard]
    assert kinds("wandb") == [*files, Tracker] and kinds("none") == files
    assert not capsys.readouterr().err
    monkeypatch.setattr(train_watchers, "find_spec", lambda name: None)
    assert kinds(None) == kinds("none") == files
    assert "TensorBoard is not installed" in capsys.readouterr().err


def test_trackers_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_watchers, "find_spec", lambda name: None)
    with refused("package_missing"):
        kinds("wandb")
    with refused("unknown_name"):
        kinds("neptune")
