"""Where a training computes. The device "meta" stands for an accelerator: what meets it from the CPU fails."""

from collections import OrderedDict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from kinoform.mini.training.autoencoder_stage import AutoencoderStage
from kinoform.mini.training.plan import prepare_tokenizer
from kinoform.mini.training.text_stage import TextStage
from kinoform.mini.training.transformer_stage import TransformerStage
from kinoform.models.vae import VAE
from kinoform.training import devices, loop
from kinoform.training.checkpoint import fingerprint, latest
from kinoform.training.devices import CPU, check_compiler, device_of, moved
from kinoform.training.distributed import Rank, SingleProcess
from kinoform.training.frozen import FrozenParts
from kinoform.training.learner import Learner
from kinoform.training.loop import train
from kinoform.training.observe import StepLoss
from kinoform.training.optimizer import OptimizerSpec, Schedule
from kinoform.training.stage import RunOptions, Stage, TrainingSpec
from tests.support.narrowing import some
from tests.support.refusals import refused
from tests.training.test_stages import tiny_plan
from tests.training.tiny_stage import OPTIONS, SPEC, TinyStage

META = torch.device("meta")


class Pair(NamedTuple):
    first: Tensor
    second: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    label: str
    tensor: Tensor


def tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors in the parts of a tree, found in another way than `moved` finds them."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from tensors(list(tree.values()))
    elif isinstance(tree, list | tuple):
        for branch in tree:
            yield from tensors(branch)
    elif hasattr(tree, "__slots__"):
        yield from tensors([getattr(tree, name) for name in tree.__slots__])


def test_a_tree_keeps_its_shape_and_values() -> None:
    one = torch.arange(3.0)
    tree = OrderedDict(a=[one, 2], b=(None, Pair(one, {"c": Labelled(label="x", tensor=one)})))
    same = moved(tree, CPU)
    assert [tensor is one for tensor in tensors(same)] == [True] * 3
    assert isinstance(same["b"][1], Pair) and same["b"][1].second["c"].label == "x"
    assert same["a"][1] == 2 and same["b"][0] is None
    away = moved(tree, META)
    assert [tensor.device for tensor in tensors(away)] == [META] * 3
    assert isinstance(away["b"], tuple) and isinstance(away["b"][1].second["c"], Labelled)


@pytest.fixture(scope="module")
def every_stage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    plan = tiny_plan()
    tokenizer = prepare_tokenizer(plan, tmp_path_factory.mktemp("tokenizer"))
    autoencoder, text = AutoencoderStage(some(plan.autoencoder)), TextStage(plan.text, tokenizer)
    codec = deepcopy(autoencoder.modules())
    assert isinstance(codec, VAE)
    frozen = FrozenParts(codec=codec, tokenizer=tokenizer, text_encoder=plan.recipe.text.build().eval())
    transformer = TransformerStage(replace(plan.transformer, precision=torch.bfloat16), frozen)
    return {"autoencoder": autoencoder, "text": text, "transformer": transformer}


@pytest.fixture
def _values(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read back from the device, which as "meta" has no values: a caption's length and positions."""
    monkeypatch.setattr(Tensor, "__int__", lambda tensor: 5)
    monkeypatch.setattr(Tensor, "cpu", lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype))


@pytest.mark.usefixtures("_values")
@pytest.mark.parametrize("name", ["autoencoder", "text", "transformer"])
def test_a_stage_computes_where_its_module_and_batch_are(every_stage: dict[str, Stage], name: str) -> None:
    stage = deepcopy(every_stage[name])
    batch = stage.batch(1)
    assert all(tensor.device == CPU for tensor in tensors(batch))
    assert not any(tensor.dtype == torch.float64 for tensor in tensors(batch)), "MPS has none"
    module = stage.modules().to(META)
    loss = stage.loss(moved(batch, META))
    loss = loss.total if isinstance(loss, StepLoss) else loss
    loss.backward()
    assert loss.device == META
    found = [p.grad.device for p in module.parameters() if p.requires_grad and p.grad is not None]
    assert found and set(found) == {META}


class Matrices(TinyStage):
    """Without biases, which AdamW's fused form would have, and that knows real devices only."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(7, 8, bias=False), nn.GELU(), nn.Linear(8, 6, bias=False))


def test_all_that_learns_is_on_the_device() -> None:
    stage = Matrices()
    spec = TrainingSpec(schedule=Schedule(warmup=0, total=4), optimizer=OptimizerSpec())
    learner = Learner(stage.modules().to(META), spec, SingleProcess())
    for step in range(4):
        loss = learner.gradients([stage.loss(moved(stage.batch(step), META))])
        assert learner.clipped().device == loss.device == META
        learner.apply(step, 1.0)
    found = list(tensors(learner.state_dict()))
    assert len(found) == 6, "weights, momenta, averages"
    assert {tensor.device for tensor in found} == {META}


def test_batches_go_to_the_device_and_checkpoints_come_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, asked = torch.device("cpu", 0), []

    def heard(tree: object, target: torch.device) -> object:
        asked.append((target, type(tree)))
        return moved(tree, target)

    monkeypatch.setattr(loop, "moved", heard)
    stage = TinyStage()
    train(stage, tmp_path, SPEC, replace(OPTIONS, device=device))
    assert asked.count((device, tuple)) == SPEC.schedule.total
    saves = SPEC.schedule.total // OPTIONS.save_every
    assert [target for target, _ in asked if target is not device] == [CPU] * (saves + 1), "each save, and the end"
    found = latest(tmp_path / "checkpoints", fingerprint({"stage": stage.config, "training": SPEC}))
    assert found is not None
    kept = list(tensors(found.state))
    assert len(kept) > 20 and {tensor.device for tensor in kept} == {CPU}


@pytest.mark.parametrize("name", ["cuda", "mps", "meta"])
def test_a_device_that_cannot_compute_is_refused_in_one_sentence(name: str) -> None:
    if (name == "cuda" and torch.cuda.is_available()) or (name == "mps" and torch.backends.mps.is_available()):
        pytest.skip(f"this machine has {name}")
    with refused("device_unsupported", repr(name)) as caught:
        RunOptions(device=torch.device(name))
    assert "\n" not in str(caught.value)


def test_a_compiler_that_does_not_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: object) -> object:
        def call(x: Tensor) -> Tensor:
            raise RuntimeError("no C++ compiler\nand much more")

        return call

    monkeypatch.setattr(devices.torch, "compile", broken)
    with refused("compiler_missing", "--compile"):
        check_compiler(CPU)


def test_processes_take_devices_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cuda, second = torch.device("cuda"), torch.device("cuda", 1)
    assert [device_of(Rank(index, 3), cuda).index for index in range(3)] == [0, 1, 0]
    assert device_of(Rank(), cuda) == cuda
    assert device_of(Rank(0, 3), second) == second
    assert device_of(Rank(1, 3), CPU) == CPU
