"""The adapters of the embedded model: small, whole, and as skilled as they were.

The skill test is a fixed small sample of `kinoform evaluate MODEL --inputs`; its floors lie well below what the shipped
adapters reach on it, so that only a real regression fails, and far above chance.
"""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

import kinoform
from kinoform.evaluation.evaluate import evaluate, input_tasks
from kinoform.evaluation.tasks import prompt_tasks
from kinoform.models.dit import DiT, Prepared
from kinoform.recipes.catalogue import ADAPTERS, adapter_asset
from kinoform.types import Level
from tests.support.unchecked import unchecked

MOST_BYTES = 2_000_000
SCENES = 10

Floors = Mapping[str, Mapping[str, float]]

FRAMES: Floors = {"first and last": {"motion": 0.8, "colour": 0.8}, "other caption": {"motion": 0.5}}
EDITS: Floors = {
    "recolour": {"edit_right": 0.7, "outside_equal": 1.0},
    "remove": {"edit_right": 0.7, "outside_equal": 1.0},
}
REFERENCE: Floors = {"reference": {"colour": 0.8, "identity": 0.5}, "other reference": {"colour": 0.8, "identity": 0.6}}
CONTEXT: Floors = {"recolour": {"edit_right": 0.8, "outside_equal": 1.0}}
FLOORS = {"mini:frames": FRAMES, "mini:vace": EDITS, "mini:context": CONTEXT, "mini:reference": REFERENCE}
TASKS = {
    "mini:frames": ("known frames", "other caption"),
    "mini:vace": ("recolour", "remove"),
    "mini:context": ("recolour",),
    "mini:reference": ("identity",),
}
BLIND = {"no reference": {"identity": 0.3}}
"""The measure can fail: what no prompt names and no image shows does not come by itself."""

CODEC = {"first frame": 2.0, "first and last": 2.0}
"""By how many dB known frames may be further from what was given than the codec's own reconstruction is."""


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_small_and_fits_its_base(name: str) -> None:
    assert adapter_asset(name).stat().st_size <= MOST_BYTES
    model = kinoform.load(name, device="cpu").parts.transformer(torch.float32, torch.device("cpu"))
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_four_forwards_make_what_thirty_two_make(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, forwards, evaluated = kinoform.load("mini:fast", device="cpu"), list[int](), DiT.velocities

    def counted(model: DiT, x: Tensor, level: Level, prepared: Sequence[Prepared]) -> list[Tensor]:
        forwards.extend([len(prepared)] * (not x.is_meta))  # the plan of a video computes no numbers
        return evaluated(model, x, level, prepared)

    monkeypatch.setattr(DiT, "velocities", counted)
    with unchecked():
        found = evaluate(pipeline, prompt_tasks(["L1"]), count=SCENES)
    print({case.name: {mark: each.right for mark, each in case.skill.items()} for case in found.cases})
    assert forwards == [1] * 4 * len(found.cases) * SCENES
    assert sum(case.skill["all_right"].right for case in found.cases) >= 0.6 * len(found.cases) * SCENES


@pytest.mark.parametrize("name", TASKS)
def test_it_follows_its_inputs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = kinoform.load(name, device="cpu")
    if name != "mini:frames":  # of which alone the codec's own videos are asked below
        monkeypatch.setattr("kinoform.evaluation.evaluate.redrawn", lambda pipeline, frames: frames)
    with unchecked():  # as users run it, and in less time
        found = evaluate(pipeline, input_tasks(pipeline, TASKS[name]), count=SCENES)
    cases = {case.name: case for case in found.cases}
    for case in found.cases:
        print(name, case.name, {mark: each.right for mark, each in case.skill.items()}, case.figures)
    short = {
        (case, mark): cases[case].skill[mark].right
        for case, floors in FLOORS[name].items()
        for mark, floor in floors.items()
        if cases[case].skill[mark].right < floor * SCENES
    }
    assert short == {}
    for case in BLIND.keys() & cases.keys():
        assert all(cases[case].skill[mark].right <= most * SCENES for mark, most in BLIND[case].items())
    for case in CODEC.keys() & cases.keys():
        given, codec = cases[case].figures["kept_psnr"], cases[case].ceiling_figures["kept_psnr"]
        assert given > codec - CODEC[case]
