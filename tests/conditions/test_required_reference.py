"""A reference that a model cannot do without: its lack is refused before any weight is read, and a plan counts one."""

from dataclasses import replace
from pathlib import Path

import pytest

from kinoform.conditions.inputs import NO_INPUTS, Inputs
from kinoform.conditions.protocols import EncoderSpecs, Units, VideoSize
from kinoform.conditions.references import ContextReferences, InContextReferences, LatentFeatures
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES
from kinoform.loading.additions import Additions, with_additions
from kinoform.models.in_context import InContextImages
from kinoform.models.vae import VAESpec
from kinoform.pipelines.pipeline import Pipeline
from tests.conditions.in_hand import image
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny_pipeline, write_tiny_folder

VIDEO, UNITS = VideoSize(num_frames=5, height=16, width=24), Units(stride=(2, 4, 4), patch=(1, 2, 2))
IMAGE = image(1, 16, 24)
OPTIONAL = [InContextReferences(), ContextReferences(features=LatentFeatures(channels=5))]
either = pytest.mark.parametrize("conditioner", OPTIONAL, ids=["guests", "rows"])


def needing(conditioner: InContextReferences | ContextReferences) -> InContextReferences | ContextReferences:
    return replace(conditioner, required=True)


def estimate(conditioner: InContextReferences | ContextReferences, inputs: Inputs, **changes: int) -> list[object]:
    """The cost, with shapes in the place of tensors, which cannot be compared."""
    cost = conditioner.estimate(inputs, VIDEO, UNITS, EncoderSpecs(codec=VAESpec(channels=4)))
    rows = {name: tensor.shape for name, tensor in cost.context.items()}
    branches = {name: [image.shape for image in images] for name, images in cost.branches.items()}
    return [replace(cost, context={}, branches={}, **changes), rows, branches]


@either
def test_only_where_it_is_required_its_lack_is_refused(conditioner: InContextReferences | ContextReferences) -> None:
    conditioner.check(NO_INPUTS, VIDEO)
    needing(conditioner).check(Inputs({REFERENCE_IMAGES: (IMAGE,)}), VIDEO)
    with refused("input_missing"):
        needing(conditioner).check(NO_INPUTS, VIDEO)


@either
def test_without_one_the_usual_case_is_planned(conditioner: InContextReferences | ContextReferences) -> None:
    one = estimate(conditioner, Inputs({REFERENCE_IMAGES: (IMAGE,)}), held=0)
    assert estimate(needing(conditioner), NO_INPUTS) == one != estimate(conditioner, NO_INPUTS)
    assert estimate(needing(conditioner), Inputs({REFERENCE_IMAGES: (IMAGE,) * 3})) == estimate(
        conditioner, Inputs({REFERENCE_IMAGES: (IMAGE,) * 3})
    )


@pytest.fixture
def pipe(tmp_path: Path) -> Pipeline:
    additions = Additions(branches=(InContextImages(),))
    conditioners = (needing(InContextReferences()),)
    found = tiny_pipeline(write_tiny_folder(tmp_path / "tiny"), conditioners=conditioners, additions=additions)
    return replace(found, parts=with_additions(found.parts, additions, found.recipe.transformers))


def test_a_pipeline_refuses_before_any_weight_is_read(pipe: Pipeline) -> None:
    def never(*asked: object) -> None:
        raise AssertionError("a part was loaded")

    parts = replace(pipe.parts, text_encoder=never, codec=never, transformers=(never,), tokenizer=never)
    with refused("input_missing"):
        replace(pipe, parts=parts)("a red ball", seed=1)
    video = pipe("a red ball", seed=1, inputs=Inputs({REFERENCE_IMAGES: (IMAGE,)}))
    assert video.frames.shape == (3, 16, 16, 3)
