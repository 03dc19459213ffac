"""Processes that train as one do what one process does."""

import atexit
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import ClassVar

import pytest
import torch
from torch import nn

from kinoform.errors import Interrupted, NonFiniteError
from kinoform.mini.training.plan import Trained, train_plan
from kinoform.training.distributed import ProcessGroup, Rank, SingleProcess, loopback, spawn
from kinoform.training.learner import Learner
from kinoform.training.metrics import read_metrics
from kinoform.training.optimizer import OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import RunOptions, TrainingSpec
from tests.support.refusals import refused
from tests.training.test_stages import QUIET, tiny_plan

LONG = TrainingSpec(schedule=Schedule(warmup=1, total=2_000), optimizer=OptimizerSpec(hidden=no_matrix))


def test_parts_make_up_the_whole() -> None:
    for of in (1, 2, 3, 6):
        dealt = [number for index in range(of) for number in list(range(6))[Rank(index, of).slice(6)]]
        assert dealt == list(range(6))
    with refused("batch_not_divisible", "6", "4"):
        Rank(0, 4).slice(6)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what each of two processes found in all that follows here, after which both end badly."""
    folder = tmp_path_factory.mktemp("shared")
    spawn(2, work, (folder,))
    return folder


def work(group: ProcessGroup, folder: Path) -> None:
    for part in (agree, cubes, descend):
        (folder / part.__name__).mkdir(exist_ok=True)
        part(group, folder / part.__name__)
    atexit.register(os.abort)


def test_what_goes_wrong_behind_the_work_does_not_undo_it(shared: Path) -> None:
    assert all(len(list(part.iterdir())) == 2 for part in shared.iterdir())


def agree(group: ProcessGroup, folder: Path) -> None:
    values = [torch.full((2, 3), float(group.rank.index)), torch.tensor(10.0 * group.rank.index)]
    group.mean(values)
    found = [values[0].eq(0.5).all().item(), values[1].item(), group.any(group.rank.index == 1), group.any(False)]
    (folder / str(group.rank.index)).write_text(str(found))


def test_processes_share_means_and_flags(shared: Path) -> None:
    assert [(shared / "agree" / name).read_text() for name in "01"] == ["[True, 5.0, True, False]"] * 2


def test_every_process_hands_over_every_gradient() -> None:
    """Also of what no sample of its part used; or the sums of two processes would be of different parameters."""
    module = nn.ModuleDict({"first": nn.Linear(2, 1), "used": nn.Linear(3, 1)})
    learner = Learner(module, LONG, Noting())
    learner.gradients([module["used"](torch.ones(1, 3)).sum()])
    assert Noting.shapes == [(), *(parameter.shape for parameter in module.parameters())]
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in module["first"].parameters())


class Noting(SingleProcess):
    """What is handed to the group."""

    shapes: ClassVar[list[torch.Size]] = []

    def mean(self, tensors: Iterable[torch.Tensor]) -> None:
        self.shapes.extend(each.shape for each in tensors)


def cubes(group: ProcessGroup, folder: Path) -> None:
    stacks, handed = [torch.arange(12.0).view(3, 2, 2), torch.full((1, 5), -2.0)], []

    def cubed(stack: torch.Tensor) -> torch.Tensor:
        handed.append(len(stack))
        return stack**3

    found = group.map_sharded(cubed, stacks)
    same = all(torch.equal(each, stack**3) for each, stack in zip(found, stacks, strict=True))
    (folder / str(group.rank.index)).write_text(f"{same} {handed}")


def test_processes_do_their_share_and_hear_the_rest(shared: Path) -> None:
    assert [(shared / "cubes" / name).read_text() for name in "01"] == ["True [2, 1]", "True [1, 0]"]


def descend(group: ProcessGroup, folder: Path) -> None:
    """Three steps of Muon on matrices of two shapes, with the same gradients in every process."""
    weights = [(f"{n}", nn.Parameter(torch.zeros(4, 3 + n % 2))) for n in range(5)]
    optimizer, generator = OptimizerSpec().build(weights, group), torch.Generator().manual_seed(0)
    for _ in range(3):
        for _, weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step(1.0)
    torch.save([weight.detach() for _, weight in weights], folder / str(group.rank.index))


def test_muon_that_is_shared_steps_as_muon_alone(shared: Path, tmp_path: Path) -> None:
    first, second = (torch.load(shared / "descend" / name) for name in "01")
    assert all(map(torch.equal, first, second)), "processes must not drift apart"
    descend(SingleProcess(), tmp_path)
    for one, alone in zip(first, torch.load(tmp_path / "0"), strict=True):
        assert torch.allclose(one, alone, atol=1e-6)


def fail(group: ProcessGroup) -> None:
    if group.rank.index == 1:
        raise NonFiniteError("of the second process")
    while not group.any(False):
        time.sleep(0.01)


def test_the_failure_of_one_process_ends_all_and_is_told() -> None:
    with refused("not_finite"):
        spawn(2, fail)


def vanish(group: ProcessGroup) -> None:
    if group.rank.index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    while not group.any(False):
        time.sleep(0.01)


def test_a_killed_process_ends_all_with_a_sentence() -> None:
    with refused("process_killed", "2"):
        spawn(2, vanish)


KEEP_ALL = RunOptions(save_every=1, keep=3, show_progress=False)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    """The folder of a training by two processes, with all its checkpoints, and what it trained."""
    folder = tmp_path_factory.mktemp("two")
    heard = replace(KEEP_ALL, on_progress=lambda *_: None)  # which no other process can be handed
    return folder, train_plan(tiny_plan(), folder, heard, processes=2)


def test_two_processes_learn_what_one_learns(by_two: tuple[Path, Trained], tmp_path: Path) -> None:
    folder, two = by_two
    one = train_plan(tiny_plan(), tmp_path, QUIET)
    for name, parameter in one.transformer.named_parameters():
        assert torch.allclose(parameter, two.transformer.get_parameter(name), atol=2e-4), name
    assert any(parameter.any() for parameter in two.transformer.head.parameters()), "it learnt something"
    logs = [read_metrics(place / "transformer" / "losses.jsonl") for place in (tmp_path, folder)]
    for alone, shared in zip(*logs, strict=True):
        assert shared.loss == pytest.approx(alone.loss, rel=1e-5)
        assert (shared.samples, shared.flops) == (alone.samples, pytest.approx(alone.flops, rel=0.01))


def test_a_batch_that_cannot_be_shared_is_refused_before_the_processes_start(tmp_path: Path) -> None:
    with refused("batch_not_divisible", "4", "3"):
        train_plan(tiny_plan(), tmp_path, QUIET, processes=3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes_after_a_step_and_saves_it(tmp_path: Path, number: signal.Signals) -> None:
    log, ended = tmp_path / "transformer" / "losses.jsonl", Event()

    def send() -> None:
        while not (log.exists() and len(log.read_bytes().splitlines()) > 3):
            if ended.wait(0.05):
                return
        os.kill(os.getpid(), number)

    sender = Thread(target=send)
    sender.start()
    try:
        with pytest.raises(Interrupted, match=f"stopped by {number.name}"):
            train_plan(
                tiny_plan(transformer_training=LONG),
                tmp_path, RunOptions(save_every=1000, show_progress=False), processes=2,
            )  # fmt: skip
    finally:
        ended.set()
        sender.join()
    steps = len(read_metrics(log))
    assert (tmp_path / "transformer" / "checkpoints" / f"step-{steps:08d}").is_dir()


@pytest.mark.parametrize(
    ("interfaces", "found"),
    [
        ([(1, "lo"), (2, "eth0"), (3, "lo_vpn")], "lo"),
        ([(1, "lo0"), (2, "gif0"), (5, "en0")], "lo0"),
        ([(1, "loopback_0"), (2, "ethernet_1")], None),
    ],
    ids=["Linux", "macOS", "Windows"],
)
def test_the_interface_to_oneself_is_found(
    interfaces: list[tuple[int, str]], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.if_nameindex", lambda: interfaces)
    assert loopback() == found


def test_processes_meet_over_an_interface_that_is_there() -> None:
    assert loopback() in {name for _, name in socket.if_nameindex()}


def test_a_run_goes_on_with_another_number_of_processes(by_two: tuple[Path, Trained], tmp_path: Path) -> None:
    shutil.copytree(by_two[0], tmp_path, dirs_exist_ok=True)
    log, checkpoints = tmp_path / "transformer" / "losses.jsonl", tmp_path / "transformer" / "checkpoints"
    spawn = [entry.loss for entry in read_metrics(log)]
    for step in (2, 3):
        shutil.rmtree(checkpoints / f"step-{step:08d}")
    train_plan(tiny_plan(), tmp_path, KEEP_ALL)
    assert [entry.loss for entry in read_metrics(log)] == pytest.approx(spawn, rel=1e-4)
