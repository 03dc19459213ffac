"""Material in the sequence of the video: its numbers and level, that it leaves no trace, and what guidance shares."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput, together
from kinoform.models.dit import DiT
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.models.segments import SegmentRotation
from kinoform.types import Conditions, InContextSegment, Level
from tests.models.recorded import gap
from tests.models.toys import GRID, TINY, TOLD, noise, random_dit, run, video
from tests.support.refusals import refused

SPEC = replace(TINY, segments=SegmentRotation())
LEVEL = Level(sigma=0.6, timestep=600.0)
SOURCE = InContextSegment(latents=video(40), group="video")
IMAGES = tuple(InContextSegment(latents=noise(50 + n, 1, 4, 1, 2 + n, 3), group="images") for n in range(2))
GIVEN = ConditionerOutput(segments=(SOURCE, *IMAGES))


def told(*segments: InContextSegment, seed: int = 3) -> Conditions:
    return replace(TOLD, segments=segments, context={"text": noise(seed, 1, 5, 10)})


def begun(model: DiT, conditions: Conditions, x: Tensor) -> Tensor:
    return model._begin(x, torch.tensor([600.0]), model.prepare(conditions, GRID))[0].tokens


def test_numbers_count_from_one_and_are_spread_over_what_was_trained() -> None:
    rotation = SegmentRotation()
    assert rotation.numbers(0) == () and rotation.numbers(5) == (1, 2, 3, 4, 5)
    assert rotation.numbers(6) == pytest.approx((1, 1.8, 2.6, 3.4, 4.2, 5))
    assert SegmentRotation(trained=1).numbers(3) == (1, 1, 1)
    with refused("value_out_of_range", "0"):
        SegmentRotation(trained=0)


@pytest.mark.parametrize("block", [SPEC.block, FactorizedBlock()], ids=["full", "factorized"])
def test_every_segment_counts_and_which_is_first(block: object) -> None:
    model = random_dit(replace(SPEC, block=block))  # type: ignore[arg-type]
    videos = [run(model, video(), told(*GIVEN.segments[:count])) for count in range(4)]
    assert torch.equal(videos[0], run(random_dit(replace(TINY, block=block)), video()))  # type: ignore[arg-type]
    assert all(each.shape == video().shape for each in videos)
    assert all(gap(more, fewer) > 1e-4 for fewer, more in pairwise(videos))
    assert gap(run(model, video(), told(SOURCE, *IMAGES[::-1])), videos[3]) > 1e-4


def test_a_segment_without_number_is_as_more_of_the_video() -> None:
    """The embedding, the places and the level are the video's: with number 0 a frame is one that stands at 0."""
    model, x = random_dit(SPEC), video(frames=1)
    twice = model.prepare(told(InContextSegment(latents=x, group="images")), replace(GRID, frames=1))
    half = len(twice.rotary.cos) // 2
    twice = twice._replace(rotary=type(twice.rotary)(*(torch.cat([table[:half]] * 2) for table in twice.rotary)))
    assert gap(model(x, torch.tensor([600.0]), twice), run(model, x)) < 1e-5, "all keys twice change no attention"


def test_all_tokens_share_the_level_of_the_video_and_no_row_is_copied() -> None:
    model = random_dit(SPEC)
    stream, _ = model._begin(video(), torch.tensor([600.0]), model.prepare(told(*GIVEN.segments), GRID))
    assert stream.modulation.index is None and stream.in_context == GRID.tokens + 6 + 9
    clean = torch.arange(GRID.tokens) < 15
    prepared = model.prepare(replace(told(*GIVEN.segments), clean=clean), GRID)
    index = model._begin(video(), torch.tensor([600.0]), prepared)[0].modulation.index
    assert index is not None and index[0].tolist() == [*(~clean).int().tolist(), *[1] * (GRID.tokens + 15)]


def test_the_head_sees_the_tokens_of_the_video_alone() -> None:
    model, seen = random_dit(SPEC), list[torch.Size]()
    model.head.register_forward_hook(lambda module, given, out: seen.append(given[0].shape))
    run(model, video(), told(*GIVEN.segments))
    assert seen == [(1, GRID.tokens, TINY.dim)]


def test_guidance_shares_the_beginning_of_those_with_the_same_segments() -> None:
    model, calls = random_dit(SPEC), list[int]()
    block = model.blocks[0]
    before = block.before_context
    block.before_context = lambda stream: calls.append(stream.tokens.shape[1]) or before(stream)  # type: ignore[method-assign]
    prepared = [
        model.prepare(conditions, GRID)
        for conditions in (
            told(seed=4), told(*GIVEN.segments, seed=4), told(SOURCE, seed=4), told(*GIVEN.segments), told(seed=3),
        )
    ]  # fmt: skip
    shared = model.velocities(video(), LEVEL, prepared)
    assert calls == [GRID.tokens, 2 * GRID.tokens + 15, 2 * GRID.tokens]
    for velocity, alone in zip(shared, prepared, strict=True):
        assert torch.equal(velocity, model.velocities(video(), LEVEL, (alone,))[0])


def test_a_batch_of_videos_sees_the_same_image_and_each_its_own_source() -> None:
    model, both = random_dit(SPEC), torch.cat([video(2), video(3)])
    sources = torch.cat([video(40), video(41)])
    text = {"text": TOLD.context["text"].expand(2, -1, -1)}
    given = InContextSegment(latents=sources, group="video"), IMAGES[0]
    result = model.velocities(both, LEVEL, (model.prepare(Conditions(context=text, segments=given), GRID),))[0]
    for place in range(2):
        own = told(InContextSegment(latents=sources[place : place + 1], group="video"), IMAGES[0])
        alone = model.velocities(both[place : place + 1], LEVEL, (model.prepare(own, GRID),))[0]
        assert gap(result[place : place + 1], alone) < 1e-5


def test_groups_are_left_out_and_the_others_numbered_anew() -> None:
    assert GIVEN.without({"video"}).conditions(noise(3, 1, 5, 10)).segments == IMAGES
    assert together((ConditionerOutput(segments=(SOURCE,)), ConditionerOutput(segments=IMAGES))) == GIVEN
    belonging = replace(GIVEN, dropped_for_cfg=frozenset({"images"}))
    assert belonging.negative().segments == (SOURCE,) and belonging.conditions(noise(3, 1, 5, 10)).segments[1:]
    model = random_dit(SPEC)
    prepared = model.prepare(told(*GIVEN.without({"video"}).segments), GRID)
    assert torch.equal(prepared.rotary.cos, model.prepare(told(*IMAGES), GRID).rotary.cos)


def test_segments_that_the_model_does_not_read_are_refused() -> None:
    with refused("segments_not_taken", "video, images"):
        random_dit(TINY).prepare(told(*GIVEN.segments), GRID)
    uneven = replace(SPEC, patch=(1, 2, 2))
    with refused("wrong_shape", "'images'"):
        random_dit(uneven).prepare(told(IMAGES[0]), GRID)
    with refused("wrong_shape", "4 channels"):
        random_dit(SPEC).prepare(told(InContextSegment(latents=noise(1, 1, 5, 1, 2, 2), group="images")), GRID)
