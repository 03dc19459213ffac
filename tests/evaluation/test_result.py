"""Videos are judged by what they show: rendered ones are right, and each known change is marked."""

from dataclasses import replace

import numpy as np
import pytest

from kinoform.evaluation.metrics import share_of
from kinoform.evaluation.result import VideoResult, attributes, in_words, judge
from kinoform.world.parse import parse
from kinoform.world.reader import read
from kinoform.world.render import render
from kinoform.world.sampling import L1, L2, L3, Difficulty, place

LARGE = "a large red star and a green ball, each stays still on a striped blue background"
PLAIN = "a red star spins on a white background"


def rendered(sentence: str) -> np.ndarray:
    return render(place(parse(sentence), np.random.default_rng(0)))


def judged(asked: str, shown: str, level: Difficulty) -> VideoResult:
    return judge(parse(asked), level, rendered(shown))


@pytest.mark.parametrize(("sentence", "level"), [(PLAIN, L1), (LARGE, L3)])
def test_a_rendered_video_is_right(sentence: str, level: Difficulty) -> None:
    marks = judged(sentence, sentence, level).marks
    assert marks.pop("binding_error") is False
    assert all(marks.values()) and set(marks) == {*attributes(level), "count_constancy"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("background", "a large red star and a green ball, each stays still on a striped pink background"),
        ("texture", "a large red star and a green ball, each stays still on a checker blue background"),
        ("count", "a large red star stays still on a striped blue background"),
        ("colour", "a large red star and a white ball, each stays still on a striped blue background"),
        ("shape", "a large red cross and a green ball, each stays still on a striped blue background"),
        ("motion", "a large red star spins and a green ball stays still on a striped blue background"),
        ("size", "a small red star and a green ball, each stays still on a striped blue background"),
    ],
)
def test_each_change_is_marked(name: str, shown: str) -> None:
    marks = judged(LARGE, shown, L3).marks
    wrong = {attribute for attribute in attributes(L3) if not marks[attribute]} - {"all_right", "all_right_and_steady"}
    assert wrong == ({"count", "colour", "shape", "motion", "size"} if name == "count" else {name})
    assert marks["all_right"] is marks["all_right_and_steady"] is (name == "size")


def test_a_level_is_judged_by_what_it_varies() -> None:
    one = ("background", "count", "colour", "shape", "motion", "all_right", "all_right_and_steady")
    assert attributes(L1) == one
    assert set(attributes(L2)) == set(attributes(L3)) == {*one, "texture", "camera", "size"}
    assert set(attributes(Difficulty(panned=1.0))) == set(one), "no camera pans over plain backgrounds"
    assert set(attributes(replace(L1, sized=0.5))) == {*one, "size"}


def test_size_counts_where_a_word_says_it() -> None:
    silent, said = judged(PLAIN, PLAIN, L2), judged(LARGE, LARGE, L2)
    assert "size" not in silent.marks and said.marks["size"]
    assert "shape" in silent.marks and "shape" in said.marks


def test_drift_is_measured_where_the_background_is_plain() -> None:
    video = rendered(PLAIN)
    assert judge(parse(PLAIN), L1, video).background_drift == 0
    video[8:, :, :, 1] -= 30
    assert judge(parse(PLAIN), L1, video).background_drift == 30
    assert judged(LARGE, LARGE, L3).background_drift is None


def test_an_object_that_is_gone_for_one_frame_is_no_constant_count() -> None:
    video = rendered(PLAIN)
    video[7] = video[7, 0, 0]
    result = judge(parse(PLAIN), L1, video)
    assert not result.marks["count_constancy"] and result.marks["count"]
    assert result.marks["all_right"] and not result.marks["all_right_and_steady"]


def test_what_was_read_is_said() -> None:
    assert in_words(read(rendered(PLAIN))) == "red star: spin; on white"
    assert in_words(read(rendered(LARGE))) == "large red star: still; green ball: still; on stripes blue"
    pan = "a blue ring on a checker pink background, the camera pans left"
    assert in_words(read(rendered(pan))) == "blue ring: still; on checker pink, camera left"
    assert in_words(read(np.full((5, 32, 32, 3), 128, dtype=np.uint8))) == "no object; on gray"


def test_shares_are_counted_with_their_interval() -> None:
    found = share_of([True] * 190 + [False] * 10)
    assert (found.right, found.trials, found.share) == (190, 200, 0.95)
    assert (found.low, found.high) == pytest.approx((0.9104, 0.9726), abs=2e-4)
    empty = share_of([])
    assert empty.share != empty.share and (empty.low, empty.high) == (0, 1)
