import numpy as np

from kinoform.conditions.clip_checks import WHITE
from kinoform.conditions.inputs import NO_INPUTS, Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES
from kinoform.conditions.standard_inputs import VIDEO as VIDEO_INPUT
from kinoform.datasets.sample import Sample
from kinoform.errors import UsageError
from kinoform.media.types import InputVideo
from kinoform.mini.training.dataset import (
    EditSamples,
    FrameSamples,
    MixedSamples,
    ReferenceSamples,
    UnmaskedSamples,
)
from kinoform.world.parse import parse
from kinoform.world.portrait import GROUNDS
from kinoform.world.reader import read
from kinoform.world.sampling import L1, L3, is_held_out
from tests.support.narrowing import some
from tests.support.refusals import refused

VIDEO = VideoSize(num_frames=9, height=64, width=64)


def test_known_frames_are_those_of_the_video() -> None:
    samples = FrameSamples(level=L3, seed=0).draw(0, 60, VIDEO)
    for sample in samples:
        for place, image in sample.inputs[FRAMES].items():
            assert np.array_equal(image.pixels, sample.video[place])
    kinds = {tuple(sample.inputs[FRAMES]) for sample in samples}
    assert {(), (0,), (0, 8), (8,)} <= kinds and len(kinds) > 5


def test_portraits_show_the_object_of_the_video_and_prompts_may_leave_it_unnamed() -> None:
    unnamed = absent = 0
    for sample in ReferenceSamples(level=L1, seed=0).draw(0, 60, VIDEO):
        try:
            assert not is_held_out(parse(sample.prompt))
        except UsageError:
            unnamed += 1
            assert sample.inputs[REFERENCE_IMAGES], "a video cannot come from a prompt that does not say of what"
        absent += not sample.inputs[REFERENCE_IMAGES]
        for image in sample.inputs[REFERENCE_IMAGES]:
            shown, video = read(image.pixels[None]), read(sample.video)
            assert shown.background.colour in GROUNDS
            assert shown.things[0].colour == video.things[0].colour
    assert 20 < unnamed < 55 and 1 < absent < 20


def test_an_edit_leaves_alone_what_is_black_in_its_mask() -> None:
    masked = hidden = whole = words = 0
    for sample in EditSamples(level=L3, seed=0).draw(0, 120, VIDEO):
        inputs = sample.inputs
        if inputs[VIDEO_INPUT] is None:
            words += not inputs
            continue
        assert some(inputs[VIDEO_INPUT]).frames.shape == sample.video.shape
        if inputs[MASK] is None:
            whole += 1
            continue
        masked += 1
        black = np.broadcast_to(some(inputs[MASK]).values < WHITE, sample.video.shape[:3])
        assert np.array_equal(some(inputs[VIDEO_INPUT]).frames[black], sample.video[black])
        hidden += bool((some(inputs[VIDEO_INPUT]).frames[~black] == 127).all())
    assert min(masked, hidden, whole, words) > 3


def test_a_batch_of_two_kinds_has_each_in_its_share_and_may_lose_its_masks() -> None:
    size = VideoSize(num_frames=5, height=32, width=32)
    edits, shown = EditSamples(level=L3, seed=0), ReferenceSamples(level=L1, seed=0)
    mixed = MixedSamples(kinds=((3, UnmaskedSamples(samples=edits)), (1, shown)))
    drawn, alone = mixed.draw(1, 8, size), [*edits.draw(1, 6, size), *shown.draw(1, 2, size)]
    for found, kind in zip(drawn, alone, strict=True):
        assert found.prompt == kind.prompt and set(found.inputs) == set(kind.inputs) - {MASK}
    assert any(VIDEO_INPUT in item.inputs for item in drawn) and not any(MASK in item.inputs for item in drawn)
    assert len(mixed.draw(1, 3, size)) == 3


def test_to_copy_is_nothing_to_learn() -> None:
    video = np.zeros((5, 8, 8, 3), np.uint8)
    with refused("sample_unchanged"):
        Sample(inputs=Inputs({VIDEO_INPUT: InputVideo(frames=video)}), prompt="a red ball", video=video.copy())
    assert Sample(inputs=NO_INPUTS, prompt="a red ball", video=video).video is video
