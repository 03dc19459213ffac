"""Pieces of a video: that they cover it, overlap, and fade into each other."""

from itertools import pairwise

import numpy as np
import pytest

from kinoform.conditions.protocols import Units
from kinoform.editing.segments import fade, spans
from tests.support.refusals import refused

WAN = Units(stride=(4, 8, 8), patch=(1, 2, 2))


@pytest.mark.parametrize(("length", "overlap"), [(17, None), (17, 1), (17, 16), (9, 5), (81, None)])
def test_spans_cover_the_video_in_legal_lengths_and_overlap_as_asked(length: int, overlap: int | None) -> None:
    for num_frames in range(4, 90):
        check(num_frames, length, overlap)


def check(num_frames: int, length: int, overlap: int | None) -> None:
    found = spans(num_frames, length=length, overlap=overlap, units=WAN, name="video.mp4")
    assert found[0].start == 0 and found[-1].stop == num_frames
    for span in found:
        assert span.length <= length and span.length % 4 == 1
        assert span.source_indices()[: span.stop - span.start] == list(range(span.start, span.stop))
        assert set(span.source_indices()[span.stop - span.start :]) <= {num_frames - 1}
    for one, other in pairwise(found):
        assert other.shared == one.stop - other.start >= (overlap or length // 4)
        assert other.kept(4) % 4 == 1 and 0 <= other.shared - other.kept(4) < 4


def test_no_more_spans_are_made_than_needed() -> None:
    assert len(spans(17, length=17, overlap=None, units=WAN, name="")) == 1
    assert len(spans(18, length=17, overlap=5, units=WAN, name="")) == 2
    assert len(spans(29, length=17, overlap=5, units=WAN, name="")) == 2
    assert len(spans(30, length=17, overlap=5, units=WAN, name="")) == 3


@pytest.mark.parametrize("shared", [0, 1, 5, 20])
def test_a_fade_rises_evenly_and_leaves_the_rest_to_the_earlier_span(shared: int) -> None:
    weights = fade(shared)
    assert len(weights) == shared
    assert ((weights > 0) & (weights < 1)).all()
    np.testing.assert_allclose(weights + weights[::-1], 1, rtol=1e-6)
    assert (np.diff(weights) > 0).all()


def test_too_short_a_video_and_too_long_an_overlap_are_refused() -> None:
    with refused("video_too_short", "video.mp4", "4"):
        spans(3, length=17, overlap=None, units=WAN, name="video.mp4")
    with refused("value_out_of_range", "17"):
        spans(40, length=17, overlap=17, units=WAN, name="video.mp4")
