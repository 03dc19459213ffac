import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kinoform.errors import FitError
from kinoform.training import checkpoint
from kinoform.training.checkpoint import fingerprint
from kinoform.training.learner import Learner
from kinoform.training.loop import Outcome, train
from kinoform.training.metrics import Measurement, read_metrics
from kinoform.training.stage import RunOptions, TrainingSpec
from tests.support.full_disk import full_disk
from tests.support.refusals import refused
from tests.training.tiny_stage import OPTIONS, SPEC, STEPS, TinyConfig, TinyStage, never


def losses(folder: Path) -> list[Measurement]:
    """The log without the clock, which no two runs share."""
    return [replace(entry, seconds=0.0) for entry in read_metrics(folder / "losses.jsonl")]


def saved_steps(folder: Path) -> list[int]:
    return sorted(int(place.name[5:]) for place in (folder / "checkpoints").iterdir())


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power does not fail in these tests."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(TinyStage(), folder, SPEC, OPTIONS)


def assert_same(folder: Path, outcome: Outcome, whole: tuple[Path, Outcome]) -> None:
    assert losses(folder) == losses(whole[0])
    assert replace(outcome.progress, seconds=0.0) == replace(whole[1].progress, seconds=0.0)
    expected = whole[1].ema.tensors
    assert all(torch.equal(tensor, expected[name]) for name, tensor in outcome.ema.tensors.items())
    assert not list(folder.rglob(".*")), "nothing is left lying about"


def test_a_training_learns_counts_and_saves(whole: tuple[Path, Outcome]) -> None:
    folder, outcome = whole
    entries = losses(folder)
    assert [entry.step for entry in entries] == list(range(STEPS))
    assert sum(e.loss or 9 for e in entries[-10:]) < sum(e.loss or 0 for e in entries[:10])
    assert outcome.progress.step == STEPS
    assert outcome.progress.samples == entries[-1].samples == 4 * STEPS
    assert outcome.progress.flops == entries[-1].flops == 1e3 * STEPS
    assert entries[0].learning_rate == pytest.approx(SPEC.optimizer.adam.learning_rate / 5)
    assert saved_steps(folder) == [STEPS - 5, STEPS]


def test_killed_at_a_random_step_it_continues_bit_for_bit(tmp_path: Path, whole: tuple[Path, Outcome]) -> None:
    log, victim = tmp_path / "losses.jsonl", random.Random(5).randrange(6, STEPS - 8)
    program = [sys.executable, "-c", "from tests.training.tiny_stage import main; main()", str(tmp_path)]
    process = subprocess.Popen(program, cwd=Path(__file__).parents[2], env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        while not (log.exists() and log.read_bytes().count(b"\n") >= victim):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    done = len(losses(tmp_path))
    assert victim <= done < STEPS
    stage = TinyStage(TinyConfig(), at=(taken := []).append)
    outcome = train(stage, tmp_path, SPEC, OPTIONS)
    assert taken == list(range(taken[0], STEPS)), "it continued rather than began again"
    assert 0 < taken[0] <= done
    assert_same(tmp_path, outcome, whole)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [2, 5, 8, 9, 10])
def test_killed_inside_a_save_it_continues_bit_for_bit(
    tmp_path: Path, whole: tuple[Path, Outcome], moment: int
) -> None:
    """At the n-th time that something is forced onto the disk; what `finally` would tidy stays."""
    with pytest.MonkeyPatch.context() as patch:
        original, count = os.fsync, iter(range(1000))

        def fatal(handle: int) -> None:
            if next(count) == moment:
                raise Killed
            original(handle)

        patch.setattr(os, "fsync", fatal)
        patch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            train(TinyStage(), tmp_path, SPEC, OPTIONS)
    outcome = train(TinyStage(), tmp_path, SPEC, OPTIONS)
    assert_same(tmp_path, outcome, whole)


def test_a_finished_training_is_not_trained_again(tmp_path: Path, whole: tuple[Path, Outcome]) -> None:
    train(TinyStage(), tmp_path, SPEC, OPTIONS)
    outcome = train(TinyStage(at=never), tmp_path, SPEC, OPTIONS)
    assert_same(tmp_path, outcome, whole)


@pytest.fixture
def _hangups_heard() -> Iterator[None]:
    """Heed a signal that nohup may have had ignored."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


@pytest.mark.usefixtures("_hangups_heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_after_the_step_and_loses_nothing(
    tmp_path: Path, whole: tuple[Path, Outcome], number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    stage = TinyStage(at=lambda step: os.kill(os.getpid(), number) if step == 11 else None)
    with refused("training_stopped", number.name, f"12 of {STEPS} ") as caught:
        train(stage, tmp_path, SPEC, OPTIONS)
    assert caught.value.exit_code == 130
    assert signal.getsignal(number) is before
    assert saved_steps(tmp_path)[-1] == 12
    assert_same(tmp_path, train(TinyStage(), tmp_path, SPEC, OPTIONS), whole)


def test_it_trains_in_a_thread_where_signals_cannot_be_heard(tmp_path: Path, whole: tuple[Path, Outcome]) -> None:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(train(TinyStage(), tmp_path, SPEC, OPTIONS)))
    thread.start()
    thread.join()
    assert_same(tmp_path, outcomes[0], whole)


def test_a_spent_budget_saves_and_more_budget_continues(tmp_path: Path, whole: tuple[Path, Outcome]) -> None:
    slow = TinyStage(at=lambda step: time.sleep(0.05 if step == 7 else 0))
    outcome = train(slow, tmp_path, SPEC, replace(OPTIONS, seconds=0.05, save_every=1000))
    assert outcome.progress.step <= 8
    assert outcome.progress.seconds >= 0.05
    assert saved_steps(tmp_path) == [outcome.progress.step]
    assert train(slow, tmp_path, SPEC, replace(OPTIONS, seconds=0.05)).progress == outcome.progress
    assert_same(tmp_path, train(TinyStage(), tmp_path, SPEC, OPTIONS), whole)


@pytest.mark.filterwarnings("ignore:batch")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_batch_is_skipped_counted_and_logged(tmp_path: Path, value: float) -> None:
    stage = TinyStage()
    stage.poisoned = {4: value, 5: value, 20: value}
    with pytest.warns(UserWarning, match="batch 20 gave loss .* skipped"):
        outcome = train(stage, tmp_path, SPEC, OPTIONS)
    bad = [entry.step for entry in losses(tmp_path) if entry.loss is None]
    assert bad == [4, 5, 20]
    assert outcome.progress.skipped == 3
    assert outcome.progress.streak == 0
    assert all(parameter.isfinite().all() for parameter in stage.net.parameters())


@pytest.mark.filterwarnings("ignore:batch")
def test_a_skipped_step_changes_no_weight(tmp_path: Path) -> None:
    """Whatever the size of the bad gradient: training with batch 0 skipped begins at the first weights."""
    stage, seen = TinyStage(), []
    stage.poisoned = {0: float("nan")}
    first = stage.net.get_parameter("0.weight").detach().clone()
    stage._at = lambda step: seen.append(stage.net.get_parameter("0.weight").detach().clone())
    train(stage, tmp_path, SPEC, OPTIONS)
    assert torch.equal(seen[1], first)
    assert not torch.equal(seen[2], first)


class BadGradient(torch.autograd.Function):
    """A finite value with an infinite gradient."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] * float("inf")


class SteepStage(TinyStage):
    def loss(self, batch: tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        loss = super().loss(batch)
        return BadGradient.apply(loss) if batch[0] == 3 else loss


@pytest.mark.filterwarnings("ignore:batch")
def test_a_finite_loss_with_a_bad_gradient_is_skipped_too(tmp_path: Path) -> None:
    outcome = train(SteepStage(), tmp_path, SPEC, OPTIONS)
    entry = losses(tmp_path)[3]
    assert entry.loss is not None
    assert entry.gradient_norm is None
    assert outcome.progress.skipped == 1


@pytest.mark.filterwarnings("ignore:batch")
def test_too_many_bad_batches_in_a_row_end_it_with_good_checkpoints(tmp_path: Path) -> None:
    stage = TinyStage()
    stage.poisoned = dict.fromkeys(range(11, STEPS), float("nan"))
    with refused("training_not_finite", "batch 13", "nan"):
        train(stage, tmp_path, SPEC, OPTIONS)
    assert saved_steps(tmp_path) == [5, 10]
    assert len(losses(tmp_path)) == 14


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path, whole: tuple[Path, Outcome]) -> None:
    """Neither log nor checkpoints fit from step 12 on, until step 28."""
    with contextlib.ExitStack() as full:

        def fill(step: int) -> None:
            if step == 12:
                full.enter_context(full_disk(1000))
            if step == 28:
                assert saved_steps(tmp_path) == [5, 10], "the checkpoints before are intact"
                full.close()

        with (
            pytest.warns(UserWarning, match=r"log .* has to wait"),
            pytest.warns(UserWarning, match="goes on without a new checkpoint: the log"),
        ):
            outcome = train(TinyStage(at=fill), tmp_path, SPEC, OPTIONS)
    assert_same(tmp_path, outcome, whole)


def test_a_disk_without_room_for_a_checkpoint_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = sum(item.numel() for item in TinyStage().modules().parameters() if item.requires_grad)
    used = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: used._replace(free=12 * learning - 1))
    with refused("checkpoint_disk_full"):
        train(TinyStage(at=lambda step: pytest.fail("it began")), tmp_path, SPEC, OPTIONS)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: used._replace(free=12 * learning))
    train(TinyStage(), tmp_path, SPEC, OPTIONS)


class FullDisk:
    """Saving fails while `full`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.full, self._save = True, checkpoint.save
        patch.setattr(checkpoint, "save", self)

    def __call__(self, *args: Any, **options: Any) -> object:
        if self.full:
            raise FitError("the disk is full")
        return self._save(*args, **options)


def test_a_failed_save_is_a_warning_and_the_next_one_counts(
    tmp_path: Path, whole: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    stage = TinyStage(at=lambda step: setattr(disk, "full", step < 12))
    with pytest.warns(UserWarning, match="goes on without a new checkpoint: the disk is full"):
        outcome = train(stage, tmp_path, SPEC, OPTIONS)
    assert_same(tmp_path, outcome, whole)


def test_a_failed_last_save_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FullDisk(monkeypatch)
    with refused("does_not_fit"):
        train(TinyStage(), tmp_path, SPEC, replace(OPTIONS, save_every=1000))


def test_another_configuration_is_refused_and_named(tmp_path: Path) -> None:
    train(TinyStage(), tmp_path, SPEC, OPTIONS)
    with refused("checkpoint_of_other_plan", "stage.width: saved 8, now 16"):
        train(TinyStage(TinyConfig(width=16)), tmp_path, SPEC, OPTIONS)
    with refused("checkpoint_of_other_plan", "training.clip: saved 1.0, now 2.0"):
        train(TinyStage(), tmp_path, replace(SPEC, clip=2.0), OPTIONS)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("learner"),
        lambda state: state["learner"]["model"].pop("0.weight"),
        lambda state: state["learner"]["model"].update({"0.weight": torch.zeros(2, 2)}),
        lambda state: state["learner"]["optimizer"].pop("adam"),
        lambda state: state["learner"].update(ema=None),
        lambda state: state["randomness"].update(numpy=("MT19937",)),
    ],
)
def test_a_state_that_does_not_fit_is_refused_in_a_sentence(
    tmp_path: Path, whole: tuple[Path, Outcome], change: Callable[[dict], object]
) -> None:
    """A whole checkpoint of the same settings, as another version of the program may have written it."""
    print_ = fingerprint({"stage": TinyConfig(), "training": SPEC})
    found = checkpoint.latest(whole[0] / "checkpoints", print_)
    assert found is not None
    change(found.state)
    checkpoint.save(tmp_path / "checkpoints", found)
    with refused("checkpoint_damaged", "40 steps"):
        train(TinyStage(), tmp_path, SPEC, OPTIONS)


def test_samples_show_the_average_and_do_not_disturb(tmp_path: Path, whole: tuple[Path, Outcome]) -> None:
    stage = TinyStage()
    outcome = train(stage, tmp_path, SPEC, replace(OPTIONS, sample_every=20))
    assert [step for step, _ in stage.sampled] == [20, 40]
    assert torch.equal(stage.sampled[-1][1], outcome.ema.tensors["0.weight"])
    assert not torch.equal(stage.sampled[-1][1], stage.net.get_parameter("0.weight"))
    assert (tmp_path / "samples" / "40.txt").read_text() == "training: False"
    assert stage.net.training
    assert_same(tmp_path, outcome, whole)


class NoSamples(TinyStage):
    def sample(self, step: int, folder: Path) -> None:
        raise ZeroDivisionError


def test_a_failed_sample_is_only_a_warning(tmp_path: Path, whole: tuple[Path, Outcome]) -> None:
    stage = NoSamples()
    with pytest.warns(UserWarning, match="sample after [24]0 steps failed: ZeroDivisionError"):
        outcome = train(stage, tmp_path, SPEC, replace(OPTIONS, sample_every=20))
    assert stage.net.training
    assert_same(tmp_path, outcome, whole)


def test_gradients_are_clipped_and_their_own_norm_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, apply = [], Learner.apply

    def noted(learner: Learner, step: int, factor: float) -> None:
        gradients = [p.grad.norm() for p in learner.module.parameters() if p.grad is not None]
        lengths.append(torch.stack(gradients).norm().item())
        apply(learner, step, factor)

    monkeypatch.setattr(Learner, "apply", noted)
    stage = TinyStage()
    stage.poisoned = dict.fromkeys(range(STEPS), 100.0)
    train(stage, tmp_path, replace(SPEC, clip=0.5), OPTIONS)
    assert max(lengths) == pytest.approx(0.5, rel=1e-4)
    assert max(entry.gradient_norm or 0 for entry in losses(tmp_path)) > 5


@pytest.mark.parametrize("wrong", [{"save_every": 0}, {"keep": 0}, {"sample_every": -1}])
def test_impossible_upkeep_is_refused(wrong: dict[str, Any]) -> None:
    with refused("value_out_of_range", next(iter(wrong))):
        RunOptions(**wrong)


def test_an_impossible_training_is_refused() -> None:
    with refused("value_out_of_range", "clip"):
        TrainingSpec(schedule=SPEC.schedule, clip=0.0)
