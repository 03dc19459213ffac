"""The operations of a video are those of its plan, follow its settings, and are not guessed."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES
from kinoform.evaluation.evaluate import video_flops
from kinoform.evaluation.metrics import VideoFlops
from kinoform.media.types import InputImage
from kinoform.models.block import FullBlock
from kinoform.models.protocols import Attend
from kinoform.pipelines.fit import sizes_of, workload_of
from kinoform.pipelines.pipeline import Pipeline
from kinoform.plan.video_plan import plan_video


def flops(pipeline: Pipeline, **changes: object) -> VideoFlops:
    found = video_flops(pipeline, pipeline.request("a red ball", seed=0, **changes))
    assert found is not None
    return found


def test_they_are_those_of_the_plan(mini: Pipeline) -> None:
    work = workload_of(mini.request("a red ball", seed=0))
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
    """Attention that asks for values, which a plan does not have."""

    def at(self, layer: int) -> Attend:
        return lambda q, k, v, grid: v if q.sum().item() else q


def test_what_cannot_be_counted_is_not_guessed(mini: Pipeline) -> None:
    block = FullBlock(attention=Nowhere())
    parts = replace(mini.parts, transformer_specs=(replace(mini.parts.transformer_spec, block=block),))
    assert video_flops(replace(mini, parts=parts), mini.request("a red ball", seed=0)) is None
