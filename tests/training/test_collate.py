import torch

from kinoform.conditions.protocols import ConditionerOutput, InpaintingConstraint, LatentConstraints
from kinoform.models.vace_blocks import VaceContext
from kinoform.training.collate import collate, group_similar
from tests.support.refusals import refused


def given(value: float, *, rows: int = 2, scale: float = 1.0, lead: int = 0) -> ConditionerOutput:
    latents = torch.full((1, 3, 1 + lead, 2, 2), value)
    return ConditionerOutput(
        context={"reference": torch.full((1, rows, 4), value)},
        branches={"vace": VaceContext(latents=latents, scale=scale), "guests": (latents[:, :1], latents[:, 1:])},
        constraints=LatentConstraints(prefix_frames=lead),
    )


def test_tensors_stand_one_behind_the_other_wherever_they_are() -> None:
    whole = collate([given(1.0), given(2.0), given(3.0)])
    assert whole.context["reference"][:, 0, 0].tolist() == [1, 2, 3]
    assert whole.branches["vace"].latents[:, 0, 0, 0, 0].tolist() == [1, 2, 3]
    assert [each.shape[0] for each in whole.branches["guests"]] == [3, 3]
    assert whole.branches["vace"].scale == 1.0 and whole.channels is None


def test_what_is_known_of_a_video_is_not_learned() -> None:
    latents = torch.zeros(1, 3, 1, 2, 2)
    known = InpaintingConstraint(latents=latents, mask=latents[:, :1] == 0)
    whole = collate([ConditionerOutput(channels=latents, constraints=LatentConstraints(inpainting=known))] * 2)
    assert whole.constraints.inpainting is None and whole.channels is not None and len(whole.channels) == 2


def test_unlike_doors_shapes_and_numbers_are_kept_apart() -> None:
    every = [
        given(1.0),
        ConditionerOutput(),
        given(2.0, rows=5),
        given(3.0),
        given(4.0, scale=0.5),
        given(5.0, lead=1),
        ConditionerOutput(),
    ]
    assert group_similar(every) == [[0, 3], [1, 6], [2], [4], [5]]


def test_clean_tokens_are_those_of_all() -> None:
    first, others = torch.arange(4) < 1, torch.arange(4) < 2
    outputs = [ConditionerOutput(clean=first), ConditionerOutput(clean=first.clone())]
    clean = collate(outputs).clean
    assert clean is not None and torch.equal(clean, first)
    assert group_similar([*outputs, ConditionerOutput(clean=others), ConditionerOutput()]) == [[0, 1], [2], [3]]
    for other in (ConditionerOutput(clean=others), ConditionerOutput()):
        with refused("input_not_taken"):
            collate([outputs[0], other])
