"""The plan of a model of several transformers counts each for its own steps, and the largest that is loaded."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import together
from kinoform.conditions.standard_inputs import SOURCE_PROMPT, STRENGTH, VIDEO
from kinoform.conditions.video_to_video import StartVideo
from kinoform.media.types import InputVideo
from kinoform.ops.flops import count_flops
from kinoform.pipelines.experts import Experts
from kinoform.pipelines.fit import workload_of
from kinoform.pipelines.generate import denoise, noise_of
from kinoform.pipelines.request import Request, request
from kinoform.plan import crossover
from kinoform.plan.memory import needs
from kinoform.plan.transformer import transformer_count
from kinoform.plan.video_plan import VideoPlan, plan_video
from kinoform.plan.workload import Sizes
from kinoform.solvers.flow_edit import FlowEdit
from kinoform.solvers.guidance.interval import Interval
from kinoform.solvers.guidance.negative_attention import NormalizedAttention
from kinoform.solvers.guidance.skip_layers import SkipLayerGuidance
from tests.conditions.in_hand import InHand
from tests.support.tiny_recipe import ROWS, by_expert, tiny_of_two

SMALL, LARGE = tiny_of_two().transformers[0], replace(tiny_of_two().transformers[0], layers=2)
RECIPE = replace(
    tiny_of_two(), transformers=(SMALL, LARGE), guidance_scale=by_expert(4.0, 1.0), conditioners=(StartVideo(),)
)
SHOWN = Inputs({VIDEO: InputVideo(frames=np.full((3, 16, 16, 3), 90, np.uint8))})
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("countable")

ASKED: dict[str, tuple[dict[str, Any], list[tuple[int, int]]]] = {
    "guidance of the first": ({}, [(4, 0), (0, 2)]),
    "guidance of the second": ({"guidance_scale": by_expert(1, 4)}, [(0, 4), (2, 0)]),
    "at other levels": ({"boundaries": (0.9,)}, [(2, 0), (0, 4)]),
    "in an interval": (
        {"guidance_scale": by_expert(4, 2), "guidance_rule": Interval(low=0.3, high=0.8)},
        [(1, 3), (2, 0)],
    ),
    "by attention": ({"guidance_rule": NormalizedAttention()}, [(0, 4), (0, 2)]),
    "away from fewer layers": (
        {"guidance_scale": 1.0, "guidance_rule": SkipLayerGuidance(layers=(0,), start=0.0, stop=0.7)},
        [(3, 1), (0, 2)],
    ),
    "below the boundary": ({"inputs": SHOWN | {STRENGTH: 0.2}}, [(0, 0), (0, 1)]),
    "changing a video": (
        {"inputs": SHOWN | {SOURCE_PROMPT: "a cat"}, "sampler": FlowEdit(averages=2, plain_steps=1)},
        [(8, 0), (2, 3)],
    ),
}


def planned(**changes: Any) -> tuple[Request, VideoPlan]:
    asked = request(RECIPE, "a ball", 1, **changes).sized(RECIPE.codec, SMALL.patch)
    return asked, plan_video(SIZES, workload_of(asked), dtype=torch.float32, device="cpu")


SIZES = Sizes(transformers=RECIPE.transformers, codec=RECIPE.codec, text=RECIPE.text)


@pytest.mark.parametrize(("changes", "evaluated"), ASKED.values(), ids=ASKED)
def test_operations_are_those_of_each_expert(changes: dict[str, Any], evaluated: list[tuple[int, int]]) -> None:
    asked, plan = planned(**changes)
    counted = [(each.together.of_forwards(2), each.together.of_forwards(1)) for each in plan.asked]
    assert counted == evaluated
    forwards = sum(2 * pairs + singles for pairs, singles in evaluated)
    assert plan.as_json()["evaluations"]["forwards"] == forwards  # type: ignore[index]
    models = [spec.build() for spec in RECIPE.transformers]
    text = torch.randn(1, ROWS, 16)
    rows = (text, text + 1 if asked.reads_negative else None, *((text + 2,) if asked.sampler.edits else ()))
    assert plan.workload.reads_negative == asked.reads_negative
    with torch.no_grad():
        given = together(
            each.encode(asked.inputs, asked.video, InHand(made_codec=RECIPE.codec.build()))
            for each in asked.conditioners
        )
    experts = Experts([lambda model=model: model for model in models], CPU)
    draw = noise_of(RECIPE.codec, asked)
    found = count_flops(lambda: denoise(experts, asked, rows, draw, lambda progress: None, given))  # type: ignore[arg-type]
    assert found == plan.flops["denoise"].executed


def test_memory_is_that_of_the_largest_expert_which_is_loaded() -> None:
    asked, _ = planned()
    small, large = (transformer_count(spec).bytes(torch.float32) for spec in (SMALL, LARGE))

    def weights(*, kept: bool = False, **changes: Any) -> dict[str, int]:
        work = replace(workload_of(asked), **changes)
        return {peak.stage: peak.weights for peak in needs(replace(SIZES, kept=kept), work, torch.float32, "cpu").peaks}

    both, first = weights(), weights(boundaries=(0.001,), guidance_scale=4.0)
    assert (both["denoise"], first["denoise"]) == (large, small)
    assert weights(others=True)["decode"] - both["decode"] == large
    assert weights(others=True, boundaries=(0.001,))["decode"] - first["decode"] == small
    assert weights(kept=True)["denoise"] == both["text"] + small + large


def test_the_first_expert_is_compared_with_other_kinds_of_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossover, "SIDES", {})
    monkeypatch.setattr(crossover, "SECONDS", (1.0, 2.0))
    asked, _ = planned()
    one = replace(SIZES, transformers=(SMALL,))
    several, single = (
        crossover.crossovers(sizes, replace(workload_of(asked), **changes), fps=8.0, dtype=torch.float32, device="cpu")
        for sizes, changes in ((SIZES, {}), (one, {"guidance_scale": 4.0, "boundaries": ()}))
    )
    assert several == single
