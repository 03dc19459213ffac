"""What belongs to the prompt stands with the prompt alone; everything else stands beside both prompts."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import (
    NOTHING,
    Conditioner,
    ConditionerOutput,
    EncoderSpecs,
    LatentConstraints,
    Units,
    VideoSize,
    together,
)
from kinoform.conditions.references import ContextReferences, InContextReferences, LatentFeatures
from kinoform.conditions.standard_inputs import FRAMES, REFERENCE_IMAGES
from kinoform.conditions.vace import Vace
from kinoform.models.context import ReferenceContext, ReferenceEncoderSpec
from kinoform.models.in_context import InContextImages
from kinoform.models.vace_blocks import VaceContext
from kinoform.models.vae import VAESpec
from kinoform.pipelines.generate import text_field
from kinoform.types import Conditions, Level
from tests.conditions.in_hand import CODECS, InHand, image, random_module
from tests.models.recorded import gap
from tests.models.toys import GRID, SIDE, TEXT, TINY, noise, random_dit, video

STREAM = ReferenceContext(width=6, encoder=ReferenceEncoderSpec(dim=8, heads=2, layers=1, dim_ffn=8))
SPEC = replace(TINY, in_channels=8, context=(TEXT, STREAM), branches=(SIDE, InContextImages()))
MODEL, X, LEVEL, SCALE = random_dit(SPEC), video(), Level(sigma=0.6, timestep=600.0), 3.5
POSITIVE, NEGATIVE = noise(3, 1, 5, 10), noise(4, 1, 2, 10)
BOTH = ConditionerOutput(channels=video(5), branches={"vace": VaceContext(latents=video(6, channels=5), scale=0.7)})
"""What stands beside either prompt."""

SHOWN = {
    "guests": ConditionerOutput(
        branches={"references": (noise(7, 1, 4, 1, GRID.height, GRID.width),)},
        dropped_for_cfg=frozenset({"references"}),
    ),
    "stream": ConditionerOutput(context={"reference": noise(8, 1, 7, 6)}, dropped_for_cfg=frozenset({"reference"})),
}
SHOWN["guests and stream"] = together(SHOWN.values())


def velocity(rows: Tensor, given: ConditionerOutput) -> Tensor:
    """By hand, of one prompt and all that is given."""
    conditions = Conditions(
        context={"text": rows, **given.context}, channels=given.channels, clean=given.clean, branches=given.branches
    )
    return MODEL(X, torch.tensor([LEVEL.timestep]), MODEL.prepare(conditions, GRID))


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("beside", [NOTHING, BOTH], ids=["alone", "beside others"])
def test_guidance_goes_past_the_negative_prompt_without_images(name: str, beside: ConditionerOutput) -> None:
    given = together([beside, SHOWN[name]])
    if beside is NOTHING:
        given = replace(given, channels=torch.zeros_like(X))
    found = text_field(MODEL, (POSITIVE, NEGATIVE), X, SCALE, given)(X, LEVEL)
    towards = velocity(POSITIVE, given)
    away = velocity(NEGATIVE, replace(beside, channels=given.channels))
    assert gap(found, away + SCALE * (towards - away)) < 1e-5
    shown = velocity(NEGATIVE, given)
    assert gap(found, shown + SCALE * (towards - shown)) > 1e-2, "it matters that they are left out"
    alone = text_field(MODEL, (POSITIVE, NEGATIVE), X, 1.0, given)(X, LEVEL)
    assert torch.equal(alone, towards)


def test_what_does_not_belong_to_the_prompt_stands_beside_both() -> None:
    found = text_field(MODEL, (POSITIVE, NEGATIVE), X, SCALE, BOTH)(X, LEVEL)
    towards, away = velocity(POSITIVE, BOTH), velocity(NEGATIVE, BOTH)
    assert gap(found, away + SCALE * (towards - away)) < 1e-5
    for left in (replace(BOTH, branches={}), replace(BOTH, channels=torch.zeros_like(X))):
        assert gap(velocity(NEGATIVE, left), away) > 1e-2


def test_beside_the_negative_prompt_stands_all_but_what_is_named() -> None:
    constraints = LatentConstraints(prefix_frames=1)
    given = replace(
        together([BOTH, SHOWN["guests and stream"]]),
        clean=torch.zeros(GRID.tokens, dtype=torch.bool),
        constraints=constraints,
    )
    found = given.negative()
    assert found.context == {} and list(found.branches) == ["vace"] and found.dropped_for_cfg == frozenset()
    assert found.channels is given.channels and found.clean is given.clean and found.constraints is constraints
    assert given.conditions(POSITIVE).context.keys() == {"text", "reference"}
    assert replace(given, dropped_for_cfg=frozenset()).negative() == replace(given, dropped_for_cfg=frozenset())


def test_names_of_all_contributions_are_united() -> None:
    assert SHOWN["guests and stream"].dropped_for_cfg == {"references", "reference"}
    assert together([]).dropped_for_cfg == together([BOTH]).dropped_for_cfg == frozenset()


VIDEO = VideoSize(num_frames=5, height=16, width=24)
ROWS = ContextReferences(features=LatentFeatures(channels=5))


@pytest.mark.parametrize(
    ("conditioner", "inputs", "wanted"),
    [
        (InContextReferences(), Inputs({REFERENCE_IMAGES: (image(1, 16, 24),)}), {"references"}),
        (InContextReferences(branch="subject"), Inputs({REFERENCE_IMAGES: (image(1, 16, 24),)}), {"subject"}),
        (ROWS, Inputs({REFERENCE_IMAGES: (image(1, 16, 24),)}), {"reference"}),
        (replace(ROWS, source="subject"), Inputs({REFERENCE_IMAGES: (image(1, 16, 24),)}), {"subject"}),
        (Vace(), Inputs({REFERENCE_IMAGES: (image(1, 16, 24),)}), set()),
        (KnownFrames(), Inputs({FRAMES: {0: image(1, 16, 24)}}), set()),
    ],
    ids=["guests", "guests of another name", "rows", "rows of another name", "control", "frames"],
)
def test_references_belong_to_the_prompt(conditioner: Conditioner, inputs: Inputs, wanted: set[str]) -> None:
    """And a plan is told so."""
    given = conditioner.encode(inputs, VIDEO, InHand(made_codec=random_module(CODECS["2"])))
    assert given.dropped_for_cfg == wanted and wanted <= given.context.keys() | given.branches.keys()
    units = Units(stride=(2, 2, 2), patch=(1, 2, 2))
    encoders = EncoderSpecs(codec=VAESpec())
    assert conditioner.estimate(inputs, VIDEO, units, encoders).dropped_for_cfg == wanted  # type: ignore[attr-defined]
