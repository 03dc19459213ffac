"""The operations of a video are those of its plan, follow its settings, and are not guessed."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES
from kinoform.evaluation.cost import VideoFlops, video_flops
from kinoform.media.types import InputImage
from kinoform.models.attention.full import Full
from kinoform.models.block import FullBlock
from kinoform.models.dit import DiTSpec
from kinoform.models.protocols import Attend
from kinoform.pipelines.fit import sizes_of, work_of
from kinoform.pipelines.pipeline import Pipeline
from kinoform.plan.video_plan import plan_video


def flops(pipeline: Pipeline, **changes: object) -> VideoFlops:
    found = video_flops(pipeline, pipeline.request("a red ball", seed=0, **changes))
    assert found is not None
    return found


def test_they_are_those_of_the_plan(mini: Pipeline) -> None:
    work = work_of(mini.request("a red ball", seed=0))
    plan = plan_video(sizes_of(mini.parts), work, dtype=torch.float32, device="cpu")
    found = flops(mini)
    assert found.total == sum(stage.executed for stage in plan.flops.values())
    assert found.transformer == plan.flops["denoise"].executed
    assert found.total - found.transformer == 2 * plan.text + plan.decode.flops


def test_they_follow_the_settings(mini: Pipeline) -> None:
    few, more = flops(mini, steps=4), flops(mini, steps=8)
    assert more.total - few.total == more.transformer - few.transformer > 0
    assert flops(mini, steps=4, guidance_scale=1.0).transformer < 0.6 * few.transformer, "one prompt in place of two"


def test_a_reference_is_counted(mini: Pipeline, factorized: Pipeline) -> None:
    image = InputImage(pixels=np.eye(64, dtype=np.uint8)[..., None].repeat(3, axis=-1) * 255)
    without, with_one = flops(factorized), flops(factorized, inputs=Inputs({REFERENCE_IMAGES: (image,)}))
    assert with_one.transformer > without.transformer
    assert with_one.total - without.total > with_one.transformer - without.transformer, "the codec reads it"
    assert without.total - without.transformer == flops(mini).total - flops(mini).transformer, "they share the rest"


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Attention that says nothing of its cost."""

    def at(self, layer: int) -> Attend:
        return Full().at(layer)


@dataclass(frozen=True, slots=True)
class Silent:
    """A branch that says nothing of its cost."""

    name: str = "silent"

    def build(self, spec: DiTSpec) -> nn.Module:
        return nn.Linear(2, 3)


@pytest.mark.parametrize("change", [{"block": FullBlock(attention=Nowhere())}, {"branches": (Silent(),)}])
def test_what_is_not_told_is_not_guessed(mini: Pipeline, change: dict) -> None:
    parts = replace(mini.parts, transformer_specs=(replace(mini.parts.transformer_spec, **change),))
    assert video_flops(replace(mini, parts=parts), mini.request("a red ball", seed=0)) is None
