"""Validation: held-out clips, fixed levels, fixed noise."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinoform import load
from kinoform.cli.clip_options import held_of
from kinoform.conditions.protocols import NOTHING, VideoSize
from kinoform.datasets.clips import Clip, ClipList
from kinoform.datasets.held_out import held_out
from kinoform.datasets.item import DatasetItem
from kinoform.solvers.levels import noised
from kinoform.training.adapter import train_adapter
from kinoform.training.examples import Example
from kinoform.training.metrics import read_metrics
from kinoform.training.objective import TrainableModel
from kinoform.training.run_log import read_run
from kinoform.training.stage import RunOptions
from kinoform.training.validation import LEVELS_OF_VALIDATION, ValidationLog, losses
from tests.support.refusals import refused
from tests.training.test_adapter import short

SIZE = VideoSize(num_frames=1, height=64, width=64)


def clips(*names: str) -> ClipList:
    return ClipList(
        clips=tuple(
            Clip(
                item=DatasetItem(name=name, target=Path(f"{name}.mp4"), caption="x"), start=start, size=SIZE, fps=8.0,
                hashes=(name,),
            )
            for name in names for start in (0, 4)
        ),
        notes=(),
    )  # fmt: skip


def names(some: ClipList) -> set[str]:
    return {clip.item.name for clip in some.clips}


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.3, 2), (0.99, 4)])
def test_items_are_held_out_whole_and_some_are_left(share: float, count: int) -> None:
    learnt, held = held_out(clips(*"abcde"), share, seed=1)
    assert len(names(held)) == count and not names(held) & names(learnt)
    assert len(held.clips) + len(learnt.clips) == 10 and "held out" in learnt.notes[0]
    assert names(held_out(clips(*"abcde"), share, seed=1)[1]) == names(held)


def test_what_cannot_be_held_out_is_refused() -> None:
    for text in ("0", "1.5"):
        with refused("value_out_of_range"):
            held_of(clips(*"ab"), text, lambda path: clips())
    with refused("value_out_of_range"):
        held_of(clips("a"), "0.5", lambda path: clips())
    with refused("validation_is_learnt"):
        held_of(clips(*"ab"), "other", lambda path: clips(*"bc"))
    assert held_of(clips("a"), "other", lambda path: clips("c"))[1] == clips("c")
    with refused("value_out_of_range"):
        ValidationLog([], lambda texts: torch.zeros(1, 2, 8), every=1)


class Zero(TrainableModel):
    """A model that predicts no velocity, and remembers what it was given."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.given: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, conditions: object) -> torch.Tensor:
        self.given.append((x, sigma))
        return torch.zeros_like(x)


def test_every_level_has_the_same_noise_and_the_loss_of_the_velocity() -> None:
    model, latents = Zero(), torch.randn(4, 2, 3, 3)
    example = Example(name="a", prompt="x", latents=latents, condition=NOTHING)
    told = list(losses(model, example, torch.zeros(1, 2, 8), torch.device("cpu"), seed=5))
    noise = torch.randn(1, 4, 2, 3, 3, generator=torch.Generator().manual_seed(5))
    assert told == pytest.approx([(noise - latents).square().mean().item()] * 9)
    for (x, sigma), level in zip(model.given, LEVELS_OF_VALIDATION, strict=True):
        assert sigma.item() == pytest.approx(level)
        assert torch.equal(x, noised(latents[None], noise, sigma))


def test_the_loss_of_a_training_is_told_at_first_at_last_and_between_and_changes_nothing(tmp_path: Path) -> None:
    plan, base = replace(short(steps=4), batch=2), load("mini", device="cpu", dtype="float32")
    spec = base.parts.transformer_spec
    latents = torch.randn(spec.out_channels, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    rows = torch.zeros(1, base.parts.text_spec.length, base.parts.text_spec.dim)
    log = ValidationLog(
        [Example(name="a", prompt="x", latents=latents, condition=NOTHING)], lambda texts: rows, every=2
    )
    for name, observers in (("seen", (log,)), ("plain", ())):
        options = RunOptions(show_progress=False, observers=observers)
        train_adapter(plan, base.parts, tmp_path / name / "adapter", options)
    (seen,), (plain,) = read_run(tmp_path / "seen"), read_run(tmp_path / "plain")
    assert [item.loss for item in seen.measurements] == [item.loss for item in plain.measurements]
    assert [item.step for item in seen.validation] == [0, 1, 3] and plain.validation == ()
    assert all(item.sigma == LEVELS_OF_VALIDATION and len(item.loss) == 9 for item in seen.validation)
    assert seen.validation[0].loss != seen.validation[-1].loss
    assert len(read_metrics(tmp_path / "seen" / "adapter" / "losses.jsonl")) == 4
