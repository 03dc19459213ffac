"""Killed without warning again and again, a training says the same losses as one that was left in peace."""

import contextlib
import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinoform.errors import UsageError
from kinoform.mini.training.transformer_stage import TransformerStage
from kinoform.training.checkpoint import held, latest
from kinoform.training.distributed import spawn
from kinoform.training.loop import train
from kinoform.training.optimizer import CosineSchedule, OptimizerSpec, Schedule, no_matrix
from kinoform.training.precision import StochasticRounding
from kinoform.training.stage import RunOptions, TrainingSpec
from tests.support.narrowing import some
from tests.training import tiny_stage
from tests.training.test_precision import PartlyStage
from tests.training.test_stages import tiny_plan, untrained

KILLS = 10
SPEC = TrainingSpec(schedule=Schedule(warmup=5, total=45), optimizer=OptimizerSpec(hidden=no_matrix))
OPTIONS = RunOptions(save_every=4, show_progress=False)


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill, unlike a power failure, loses nothing that was written."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def lines(folder: Path) -> list[dict[str, object]]:
    """Every line of the log but for the clock: each must be whole, and floats are compared bit for bit."""
    found = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in found]


def count(folder: Path) -> int:
    log = folder / "losses.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def forked(work: Callable[[], object]) -> int:
    """Run it in a copy of this process, which has everything in memory already."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def wait_for_lines(child: int, folder: Path, aim: int) -> None:
    while count(folder) < aim:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended before it could be killed"
        time.sleep(0.001)


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(process, 0)[1])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> TransformerStage:
    plan = tiny_plan()
    return TransformerStage(replace(plan.transformer, batch=2), untrained(plan, tmp_path_factory.mktemp("parts")))


def test_killed_at_ten_random_moments_the_losses_are_bit_equal(tmp_path: Path, stage: TransformerStage) -> None:
    """In starts, steps and saves: a random share of a moment after the log has grown to a random length."""
    victim, peaceful, chance = tmp_path / "victim", tmp_path / "peaceful", random.Random(7)
    ends = []
    for aim in [0, *sorted(chance.sample(range(1, SPEC.schedule.total // 2), KILLS - 1))]:
        child = forked(lambda: train(stage, victim, SPEC, OPTIONS))
        wait_for_lines(child, victim, aim)
        time.sleep(chance.uniform(0, 0.02))
        kill(child)
        ends.append(count(victim))
    assert max(ends) < SPEC.schedule.total, "all inside"
    for folder in (victim, peaceful):
        assert os.waitpid(forked(lambda folder=folder: train(stage, folder, SPEC, OPTIONS)), 0)[1] == 0
    assert [entry["step"] for entry in lines(victim)] == list(range(SPEC.schedule.total))
    assert lines(victim) == lines(peaceful)


def test_killed_inside_saves_too_masters_and_accumulation_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the time is spent in saves. Batches of several sizes, a frozen base, bfloat16 rounded at random."""
    kills = int(os.environ.get("KINOFORM_KILLS", "20"))
    monkeypatch.setattr(os, "fsync", lambda handle: time.sleep(0.002))
    schedule = CosineSchedule(warmup=5, total=3 * kills + 10)
    spec = replace(SPEC, schedule=schedule, accumulate=2, rounding=StochasticRounding())
    options = replace(OPTIONS, save_every=2)
    victim, peaceful, chance = tmp_path / "victim", tmp_path / "peaceful", random.Random(11)
    train(PartlyStage(), peaceful, spec, options)  # here, so that the copies have all modules that it imports
    for aim in range(0, 3 * kills, 3):
        child = forked(lambda: train(PartlyStage(), victim, spec, options))
        wait_for_lines(child, victim, aim)
        time.sleep(chance.uniform(0, 0.02))
        kill(child)
    train(PartlyStage(), victim, spec, options)
    assert [entry["step"] for entry in lines(victim)] == list(range(schedule.total))
    assert lines(victim) == lines(peaceful)
    states = [latest(folder / "checkpoints") for folder in (victim, peaceful)]
    ours, theirs = (some(state).state["learner"]["model"] for state in states)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_team_killed_at_a_random_moment_says_the_same_losses(tmp_path: Path) -> None:
    victim, peaceful, chance = tmp_path / "victim", tmp_path / "peaceful", random.Random(8)
    victim.mkdir()
    child = forked(lambda: spawn(2, tiny_stage.share, (victim, 0.02)))
    wait_for_lines(child, victim, chance.randint(6, 20))
    for member in (0, 1):
        os.kill(int((victim / f"process-{member}").read_text()), signal.SIGKILL)
    kill(child)
    wait_until_free(victim)
    assert 5 < count(victim) < tiny_stage.STEPS
    spawn(2, tiny_stage.share, (victim, 0.0))
    peaceful.mkdir()
    spawn(2, tiny_stage.share, (peaceful, 0.0))
    assert lines(victim) == lines(peaceful)
    assert len(lines(victim)) == tiny_stage.STEPS


def wait_until_free(folder: Path) -> None:
    for _ in range(1000):
        with contextlib.suppress(UsageError), held(folder):
            return
        time.sleep(0.01)
    pytest.fail("the dead still hold the folder")
