"""Nothing that kinoform does changes what the caller's own program draws, on any device."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import kinoform
from kinoform.mini.training.plan import train_plan
from kinoform.ops.drawing import seeded
from kinoform.training.loop import train
from kinoform.training.rng import seed_everything
from tests.training.test_adapter import QUIET, short, stage
from tests.training.test_stages import tiny_plan
from tests.training.tiny_stage import SPEC, TinyStage

CPU = torch.device("cpu")


def states(gpu: torch.Generator) -> list[object]:
    # Not those of Python, from which the checks of types draw while tests run.
    return [torch.get_rng_state().tolist(), gpu.get_state().tolist(), repr(np.random.get_state(legacy=False))]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.Generator:
    """The generator of a GPU that is not there: what seeds or reads those of all GPUs reaches it."""
    found = torch.Generator().manual_seed(7)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", found.manual_seed)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [found.get_state()])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda held: [found.set_state(each) for each in held])
    return found


@pytest.fixture(autouse=True)
def untouched(gpu: torch.Generator) -> Iterator[None]:
    before = states(gpu)
    yield
    assert states(gpu) == before


def test_the_simulated_gpu_is_seeded_as_a_real_one_would_be(gpu: torch.Generator) -> None:
    before, mine = gpu.get_state(), torch.get_rng_state()
    torch.manual_seed(0)
    assert not torch.equal(gpu.get_state(), before)
    gpu.set_state(before)
    torch.set_rng_state(mine)


@pytest.mark.parametrize("model", ["mini:frames", "mini:vace", "mini:reference", "mini-factorized"])
def test_loading_leaves_the_generators_alone(model: str) -> None:
    kinoform.load(model, device="cpu").parts.transformer(torch.float32, CPU)


def test_making_a_video_leaves_them_alone() -> None:
    pipe = kinoform.load("mini:frames", device="cpu")
    image = np.full((64, 64, 3), 200, np.uint8)
    image[8:40, 8:40] = 30
    pipe("a red ball", image=image, num_frames=5, num_inference_steps=2, seed=3)


def test_training_leaves_them_alone(gpu: torch.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[object]] = []
    fresh = gpu.get_state()
    trained = TinyStage(at=lambda step: drawn.append(states(gpu)))  # which itself seeds the process
    gpu.set_state(fresh)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    before = states(gpu)
    train(trained, tmp_path, SPEC, QUIET)
    assert drawn and all(each[:2] != before[:2] for each in drawn), "its dropout draws from generators that it seeded"


def test_every_stage_of_a_plan_leaves_them_alone(tmp_path: Path) -> None:
    train_plan(tiny_plan(), tmp_path, replace(QUIET, sample_every=2), lambda model, frozen, path: None)


def test_an_adapter_is_trained_without_them(tmp_path: Path) -> None:
    plan = short(1)
    train(stage(plan), tmp_path, plan.training, QUIET)


class Drawing(nn.Module):
    """Everything that modules may draw with."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.embedding = nn.Linear(3, 4), nn.Embedding(5, 2)
        self.attention, self.convolution = nn.MultiheadAttention(4, 2), nn.Conv3d(2, 3, 2)
        self.drawn = nn.Parameter(torch.randn(3) + torch.rand(3) + torch.rand_like(torch.empty(3)))
        self.more = nn.Parameter(torch.randn_like(torch.empty(2)) + torch.normal(0.0, 1.0, (2,)))
        self.whole = nn.Parameter(torch.randperm(6).float() + torch.randint(9, (6,)))
        nn.init.trunc_normal_(self.embedding.weight)
        nn.init.xavier_normal_(self.linear.weight)
        nn.init.orthogonal_(self.linear.weight)
        self.more.data.bernoulli_(0.5)


def values(module: nn.Module) -> list[Tensor]:
    return [each.detach() for each in module.parameters()]


def test_a_seed_gives_what_the_seed_of_the_process_would_give() -> None:
    with seeded(11):
        found = values(Drawing())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(11)
        expected = values(Drawing())
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_generator_that_is_given_is_taken() -> None:
    given, same = (torch.Generator().manual_seed(5) for _ in range(2))
    with seeded(11):
        assert torch.equal(torch.rand(3, generator=given), torch.rand(3, generator=same))


def test_a_gpu_that_is_not_used_yet_is_not_seeded(gpu: torch.Generator) -> None:
    before, mine, numpy = gpu.get_state(), torch.get_rng_state(), np.random.get_state()
    seed_everything(3)
    assert torch.equal(gpu.get_state(), before)
    torch.set_rng_state(mine)
    np.random.set_state(numpy)
