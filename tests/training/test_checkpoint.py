import contextlib
import errno
import json
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinoform.training import checkpoint
from kinoform.training.checkpoint import (
    TrainingCheckpoint,
    TrainingProgress,
    difference,
    fingerprint,
    latest,
    save,
    sweep,
)
from kinoform.training.rng import randomness, restore_randomness, seed_everything
from tests.support.refusals import refused

PRINT = {"training.width": "8"}


def example(step: int, value: float = 1.0) -> TrainingCheckpoint:
    state = {"model": {"weight": torch.full((64, 64), value)}, "rates": [0.1, (1, None, "a")]}
    progress = TrainingProgress(step=step, samples=4 * step, flops=1.5 * step, seconds=0.25, skipped=1, streak=0)
    return TrainingCheckpoint(progress=progress, fingerprint=PRINT, state=state)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_found(tmp_path: Path) -> None:
    save(tmp_path, example(7, 3.0))
    found = latest(tmp_path, PRINT)
    assert found is not None
    assert found.progress == example(7).progress
    assert torch.equal(found.state["model"]["weight"], torch.full((64, 64), 3.0))
    assert found.state["rates"] == [0.1, (1, None, "a")]


def test_an_empty_or_absent_folder_holds_none(tmp_path: Path) -> None:
    assert latest(tmp_path, PRINT) is None
    assert latest(tmp_path / "absent", PRINT) is None


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100, 15000):
        save(tmp_path, example(step), keep=2)
    assert names(tmp_path) == ["step-00000100", "step-00015000"]


def test_a_damaged_newer_one_never_displaces_a_whole_one(tmp_path: Path) -> None:
    damaged = save(tmp_path, example(20))
    (damaged / "state.pt").write_bytes(b"")
    save(tmp_path, example(15), keep=1)
    with pytest.warns(UserWarning, match="step-00000020"):
        found = latest(tmp_path, PRINT)
    assert found is not None
    assert found.progress.step == 15
    save(tmp_path, example(20), keep=1)
    assert names(tmp_path) == ["step-00000020"]
    assert latest(tmp_path, PRINT) is not None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(place: Path, **entries: object) -> None:
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps(manifest | entries))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "one bit of the state": lambda place: flip(place / "state.pt"),
    "a cut state": lambda place: os.truncate(place / "state.pt", 1000),
    "no state": lambda place: (place / "state.pt").unlink(),
    "no manifest": lambda place: (place / "manifest.json").unlink(),
    "a cut manifest": lambda place: os.truncate(place / "manifest.json", 40),
    "a manifest of nothing": lambda place: (place / "manifest.json").write_text("[]"),
    "a deep manifest": lambda place: (place / "manifest.json").write_text("[" * 100_000),
    "a manifest without progress": lambda place: rewrite(place, progress={"step": -1}),
    "progress that is no number": lambda place: rewrite(place, progress={"step": "10"}),
    "progress without measure": lambda place: rewrite(place, progress={"seconds": float("nan")}),
    "a fingerprint of numbers": lambda place: rewrite(place, fingerprint={"training.width": 8}),
    "another format": lambda place: (place / "manifest.json").write_text(
        (place / "manifest.json").read_text().replace('"format": 1', '"format": 99')
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_one_is_passed_over_by_name(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    save(tmp_path, example(5))
    place = save(tmp_path, example(10))
    damage(place)
    with pytest.warns(UserWarning, match=re.escape(str(place))):
        found = latest(tmp_path, PRINT)
    assert found is not None
    assert found.progress.step == 5


def test_a_state_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    """Even with a manifest that fits: the reader accepts tensors and plain values only."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'sprung'}",)

    place = save(tmp_path, example(5))
    torch.save({"trap": Trap()}, place / "state.pt", pickle_module=pickle)
    manifest = json.loads((place / "manifest.json").read_text())
    data = (place / "state.pt").read_bytes()
    manifest |= {"bytes": len(data), "sha256": checkpoint.hashlib.sha256(data).hexdigest()}
    (place / "manifest.json").write_text(json.dumps(manifest))
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.warns(UserWarning, match="no checkpoint in .* is whole"),
    ):
        assert latest(tmp_path, PRINT) is None
    assert not (tmp_path / "sprung").exists()


def test_another_training_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    save(tmp_path, example(5))
    with refused("checkpoint_of_other_plan", "training.width: saved 8, now 16"):
        latest(tmp_path, {"training.width": "16"})


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it happens, deletions in `finally` included."""


def save_until(moment: float, folder: Path) -> int:
    """Save, killed at the n-th call that touches the disk; the number of calls made before."""
    calls = 0

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal calls
            if calls >= moment:
                raise Killed
            calls += 1
            return original(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", counted(lambda handle: None))
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(os, "rename", counted(os.rename))
        patch.setattr(checkpoint._HashingWriter, "write", counted(checkpoint._HashingWriter.write))
        patch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)
        with contextlib.suppress(Killed, RuntimeError):
            save(folder, example(10, 10.0), keep=1)
    return calls


def test_a_kill_at_any_moment_of_saving_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    moments = save_until(float("inf"), tmp_path / "all")
    found_steps = set()
    for moment in range(moments):
        folder = tmp_path / str(moment)
        save(folder, example(5, 5.0), keep=1)
        save_until(moment, folder)
        sweep(folder)
        found = latest(folder, PRINT)
        assert found is not None
        assert found.state["model"]["weight"].unique().item() == found.progress.step
        assert not list(folder.glob(".*"))
        found_steps.add(found.progress.step)
    assert moments > 10
    assert found_steps == {5, 10}


def test_a_full_disk_leaves_the_earlier_ones_and_says_what_is_needed(tmp_path: Path) -> None:
    save(tmp_path, example(5, 5.0))
    original = checkpoint._HashingWriter.write
    for room in (0, 200, 5000):  # bytes until the disk is full
        with pytest.MonkeyPatch.context() as patch:

            class FullDisk:
                def __init__(self, file: Any, room: int = room) -> None:
                    self.file, self.room = file, room

                def write(self, data: bytes) -> int:
                    self.room -= len(data)
                    if self.room < 0:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    return self.file.write(data)

            def write(recorder: Any, data: bytes) -> int:
                if not isinstance(recorder.file, FullDisk):
                    recorder.file = FullDisk(recorder.file)
                return original(recorder, data)

            patch.setattr(checkpoint._HashingWriter, "write", write)
            with refused("checkpoint_disk_full", "step-00000010", "0.0 MB"):
                save(tmp_path, example(10), keep=1)
        assert names(tmp_path) == ["step-00000005"]
        assert latest(tmp_path, PRINT) is not None


def test_another_write_failure_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with refused("write_failed", "Input/output error"):
        save(tmp_path, example(10))
    assert names(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_state_is_never_written(tmp_path: Path, value: float) -> None:
    with refused("training_not_finite", "model.weight", "10 steps"):
        save(tmp_path, example(10, value))
    assert names(tmp_path) == []


def test_the_global_generators_continue_where_they_were() -> None:
    outer = randomness()
    seed_everything(3)
    torch.rand(5), np.random.rand(5), np.random.randn()
    state = randomness()
    expected = torch.rand(3).tolist(), np.random.rand(3).tolist(), np.random.randn()
    seed_everything(4)
    restore_randomness(state)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), np.random.randn()) == expected
    restore_randomness(outer)


@dataclass(frozen=True, kw_only=True)
class Inner:
    rates: tuple[float, ...] = (0.1, 0.2)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    precision: torch.dtype = torch.float32
    choose: object = fingerprint


def test_a_fingerprint_is_readable_and_names_every_difference() -> None:
    first, other = fingerprint(Outer()), fingerprint(Outer(inner=Inner(rates=(0.1, 0.3))))
    assert first["inner.rates.1"] == "0.2"
    assert first["choose"] == "kinoform.training.checkpoint.fingerprint"
    assert difference(first, first) == ""
    assert difference(first, other) == "inner.rates.1: saved 0.2, now 0.3"
    assert difference(first, {**first, "inner.new": "None"}) == difference({**first, "old": "None"}, first) == ""
    assert difference(first, {**first, "inner.new": "0"}) == "inner.new: saved nothing, now 0"
    assert "choose" in difference(first, fingerprint(Outer(choose=difference)))
    assert "inner.rates.2: saved nothing, now 0.0" in difference(
        first, fingerprint(Outer(inner=Inner(rates=(0.1, 0.2, 0.0))))
    )


def test_many_differences_are_cut_short() -> None:
    saved = {f"setting.{number}": "1" for number in range(20)}
    found = difference(saved, {})
    assert found.startswith("setting.0: saved 1, now nothing; setting.1: ")
    assert found.endswith("; and 16 more")


def test_what_has_no_stable_text_is_refused() -> None:
    with refused("plan_not_plain", "<object object"):
        fingerprint(Outer(inner=object()))  # type: ignore[arg-type]
