"""Clips are a fixed list, batches a function of the step, and no clip is ever left out."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinoform.conditions.protocols import Units, VideoSize
from kinoform.datasets.buckets import BatchSize, ClipLengths, buckets_of, lengths_of, tokens_of
from kinoform.datasets.clips import (
    AllClips,
    ClipList,
    HeadClip,
    MiddleClip,
    RandomClips,
    SlidingClips,
    SpreadClips,
    choose_clips,
)
from kinoform.datasets.item import Dataset, DatasetItem
from kinoform.datasets.order import BatchOrder
from kinoform.datasets.survey import Survey
from kinoform.errors import UsageError
from tests.support.refusals import refused

UNITS = Units(stride=(4, 8, 8), patch=(1, 2, 2))


def item(number: int, **changes: object) -> DatasetItem:
    return replace(DatasetItem(name=f"{number}.mp4", target=Path(f"{number}.mp4"), caption=f"c{number}"), **changes)


def survey(frames: int, height: int = 64, width: int = 64, *, name: str = "", still: bool = False) -> Survey:
    return Survey(num_frames=frames, height=height, width=width, fps=None, still=still, hashes=(name or str(frames),))


def chosen(surveys: list[Survey | UsageError], **changes: object) -> ClipList:
    dataset = Dataset(path=Path("data"), form="folder", items=tuple(item(n) for n in range(len(surveys))))
    usual: dict = {
        "rule": HeadClip(),
        "lengths": ClipLengths(frames=(17,)),
        "buckets": [buckets_of(64, 64, UNITS)],
        "fps": 16.0,
        "seed": 0,
    }
    return choose_clips(dataset, surveys, units=UNITS, **{**usual, **changes})


@pytest.mark.parametrize(
    ("rule", "starts"),
    [
        (HeadClip(), [0]),
        (MiddleClip(), [11]),
        (SlidingClips(stride=10), [0, 10, 20]),
        (AllClips(), [0, 17, 23]),
        (SpreadClips(count=3), [0, 12, 23]),
        (SpreadClips(count=100), list(range(24))),
    ],
)
def test_rules_choose_first_frames(rule, starts: list[int]) -> None:
    assert [clip.start for clip in chosen([survey(40)], rule=rule).clips] == starts


def test_random_clips_are_drawn_once_by_the_seed() -> None:
    first, again, other = (chosen([survey(200)], rule=RandomClips(count=5), seed=seed) for seed in (1, 1, 2))
    starts = [clip.start for clip in first.clips]
    assert first.digest == again.digest != other.digest
    assert len(set(starts)) == 5 and max(starts) <= 200 - 17 and starts == sorted(starts)


def test_clips_drawn_from_a_video_stay_when_another_is_added() -> None:
    alone = chosen([survey(200)], rule=RandomClips(count=3)).clips
    beside = chosen([survey(90), survey(200)], rule=RandomClips(count=3)).clips[3:]
    assert [clip.key for clip in alone] == [clip.key for clip in beside]


def test_images_of_a_whole_video_do_not_stand_for_frames_within_it() -> None:
    framed = item(0, first=Path("first.png"), last=Path("last.png"))
    dataset = Dataset(path=Path("data"), form="folder", items=(framed, item(1)))
    videos = [replace(survey(30), hashes=("a", "b", "c")), survey(30)]
    found = choose_clips(
        dataset, videos, rule=SlidingClips(stride=13), lengths=ClipLengths(frames=(17,)),
        buckets=[buckets_of(64, 64, UNITS)], units=UNITS,
        fps=16.0, seed=0,
    )  # fmt: skip
    assert [(clip.start, clip.own) for clip in found.clips] == [(0, (-1,)), (13, (0,)), (0, ()), (13, ())]
    assert any(note.startswith("2 clips do not begin or end") for note in found.notes)


def test_items_that_are_enlarged_are_named() -> None:
    notes = chosen([survey(17, 64, 64), survey(18, 32, 32)]).notes
    assert [note for note in notes if "enlarged" in note] == ["1 items are enlarged, up to 2 times: 1.mp4"]
    assert not any("enlarged" in note for note in chosen([survey(17, 96, 96)]).notes)


def test_a_clip_has_the_longest_length_that_its_video_fills() -> None:
    found = chosen([survey(9), survey(20), survey(40), survey(1, still=True)], lengths=ClipLengths(frames=(9, 17, 33)))
    assert [clip.size.num_frames for clip in found.clips] == [9, 17, 33, 1]
    assert any("3 frames" not in note and "frames are not learnt" in note for note in found.notes)


def test_a_video_is_learnt_in_each_length_that_it_fills_and_in_a_size_of_each_area() -> None:
    buckets = [buckets_of(side, side, UNITS) for side in (64, 96, 64)]
    lengths, rule = lengths_of("33 + 9+17"), SlidingClips(stride=12)
    found = chosen([survey(9), survey(24), survey(1, still=True)], lengths=lengths, rule=rule, buckets=buckets)
    told = [(clip.item.name, clip.size.num_frames, clip.size.width, clip.start) for clip in found.clips]
    assert told == [
        *(("0.mp4", 9, side, 0) for side in (64, 96)),
        *(("1.mp4", 9, side, start) for side in (64, 96) for start in (0, 12)),
        *(("1.mp4", 17, side, 0) for side in (64, 96)),
        *(("2.mp4", 1, side, 0) for side in (64, 96)),
    ]
    assert len({clip.key for clip in found.clips}) == len(told)
    assert any("of 1 videos up to 7 frames are not learnt" in note for note in found.notes)
    with refused("clips_too_short", "0.mp4"):
        chosen([survey(8)], lengths=lengths)


@pytest.mark.parametrize("text", ["", "17,33+49", "17 33", "0", "17,", "1000000"])
def test_text_that_names_no_lengths_is_refused(text: str) -> None:
    with refused("bad_value"):
        lengths_of(text)


def test_lengths_are_written_as_they_are_read() -> None:
    assert [lengths_of(lengths_of(text).text).text for text in ("17", "33,17", "33+17")] == ["17", "17,33", "17+33"]


def test_lengths_that_cannot_be_are_refused() -> None:
    with refused("frames_not_legal", "13", "17"):
        chosen([survey(40)], lengths=ClipLengths(frames=(16,)))
    with refused("clips_too_short", "0.mp4", "12"):
        chosen([survey(12), survey(40)])


def test_proportions_choose_the_bucket_of_equal_area() -> None:
    found = chosen([survey(17, 480, 832), survey(17, 832, 480), survey(17, 500, 500)])
    sizes = [(clip.size.height, clip.size.width) for clip in found.clips]
    assert sizes == [(48, 80), (80, 48), (64, 64)]
    one = chosen([survey(17, 480, 832)], buckets=[buckets_of(64, 64, UNITS, one=True)])
    assert one.clips[0].size == VideoSize(num_frames=17, height=64, width=64)
    with refused("size_not_legal", "multiples of 16"):
        buckets_of(60, 64, UNITS)


def test_a_few_bad_items_are_named_and_many_refused() -> None:
    bad = UsageError("it is cut short", code="media_damaged")
    good = [survey(17, name=str(n)) for n in range(12)]
    assert any("it is cut short" in note for note in chosen([*good, bad]).notes)
    assert len(chosen([*good, bad]).clips) == 12
    with refused("dataset_damaged", "2 of 4"):
        chosen([*good[:2], bad, bad])


def test_the_same_bytes_are_seen_twice_and_a_copied_source_is_refused() -> None:
    assert any("1.mp4 (as 0.mp4)" in note for note in chosen([survey(17), survey(17)]).notes)
    copied = replace(survey(17), hashes=("same", "same"))
    for role, value in (("source", Path("s.mp4")), ("references", (Path("r.png"),))):
        dataset = Dataset(path=Path("data"), form="folder", items=(item(0, **{role: value}),))
        with refused("sample_unchanged", "0.mp4", role):
            choose_clips(
                dataset, [copied], rule=HeadClip(), lengths=ClipLengths(frames=(17,)),
                buckets=[buckets_of(64, 64, UNITS)], units=UNITS,
                fps=16.0, seed=0,
            )  # fmt: skip


def test_the_digest_hears_of_captions_and_the_key_does_not() -> None:
    found = chosen([survey(17)])
    (clip,) = found.clips
    told = replace(clip, item=replace(clip.item, caption="another"))
    assert told.key == clip.key and replace(found, clips=(told,)).digest != found.digest
    assert replace(clip, start=1).key != clip.key != replace(clip, fps=24.0).key


def order(processes: int = 1, *, tokens: int = 240, seed: int = 3) -> BatchOrder:
    """Return batches of 7 small clips, 3 wide ones, and one still."""
    surveys: list[Survey | UsageError] = [survey(17, name=f"s{n}") for n in range(7)]
    surveys += [survey(33, name=f"w{n}") for n in range(3)] + [survey(1, name="still", still=True)]
    found = chosen(surveys, lengths=ClipLengths(frames=(17, 33)))
    clips = (*found.clips[:6], replace(found.clips[6], item=replace(found.clips[6].item, repeats=2)), *found.clips[7:])
    return BatchOrder(
        clips=clips, batch=BatchSize(tokens=tokens, largest=8, processes=processes), units=UNITS, seed=seed
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_an_epoch_has_every_clip_in_batches_of_one_size(processes: int) -> None:
    made = order(processes)
    for epoch in range(3):
        steps = [made.at(epoch * made.steps + step) for step in range(made.steps)]
        seen = Counter(clip.name for clips in steps for clip in clips)
        assert seen.keys() == {clip.name for clip in made.clips} and seen["6.mp4"] >= 2
        for clips in steps:
            assert len({clip.size for clip in clips}) == 1 and len(clips) % processes == 0
            assert len(clips) == 1 or sum(tokens_of(clip.size, UNITS) for clip in clips) <= 240 or processes > 1


def test_a_step_has_the_batch_of_its_number_whatever_was_asked_before() -> None:
    steps = np.random.default_rng(0).permutation(40)
    once = {step: order().at(int(step)) for step in steps}
    made = order()
    assert all(made.at(step) == once[step] for step in range(40))
    assert [made.at(step) for step in range(40)] != [order(seed=4).at(step) for step in range(40)]
    assert all(made.at(made.first_alike(step))[0].size == made.at(step)[0].size for step in range(40))


def test_tokens_are_those_of_self_attention() -> None:
    assert tokens_of(VideoSize(num_frames=81, height=480, width=832), UNITS) == 32_760
    assert BatchSize(tokens=32_768, largest=8).of(VideoSize(num_frames=17, height=64, width=64), UNITS) == 8
    assert BatchSize(tokens=32_768, processes=2).of(VideoSize(num_frames=81, height=480, width=832), UNITS) == 2
