"""What must not change: measured on rendered videos, and on the same videos with one known change."""

import numpy as np
import pytest

from kinoform.world.constancy import background_drift, counts, sightings, steady
from kinoform.world.parse import parse
from kinoform.world.reader import read
from kinoform.world.render import coverage, render
from kinoform.world.sampling import L1, L2, L3, place, scene_from_seed

BALL = "a white ball grows on a blue background"


def rendered(sentence: str = BALL) -> np.ndarray:
    return render(place(parse(sentence), np.random.default_rng(0)))


def test_a_rendered_background_does_not_drift() -> None:
    assert background_drift(rendered()) == 0
    assert background_drift(rendered()[:1]) == 0


def test_drift_is_the_largest_change_of_any_channel_between_two_frames() -> None:
    video = rendered()
    video[5, ..., 0] += 7
    video[9, ..., 0] -= 4
    video[11, ..., 2] -= 9
    assert background_drift(video) == 11
    slow = rendered()
    slow[..., 1] += np.arange(17, dtype=np.uint8)[:, None, None]
    assert background_drift(slow) == 16


def test_an_object_at_the_border_is_no_drift() -> None:
    video = rendered()
    video[5:, :20, :3] = 255
    video[5:, :3, :30] = 255
    assert background_drift(video) == 0


def test_a_flicker_of_the_first_frame_alone_is_seen() -> None:
    video = rendered()
    video[0] = video[0] + np.array([0, 9, 0], dtype=np.uint8)
    assert background_drift(video) == 9


@pytest.mark.parametrize("level", [L1, L3])
def test_rendered_videos_show_as_many_objects_in_every_frame(level) -> None:
    scenes = [scene_from_seed(seed, level) for seed in range(12)]
    constant = sum(set(counts(render(scene))) == {len(scene.things)} for scene in scenes)
    assert constant >= 11, "two objects may hide each other for a moment"


def test_each_frame_is_counted_by_itself() -> None:
    scene = place(parse(BALL), np.random.default_rng(0))
    video, shown = render(scene), coverage(scene)[0] > 0
    empty = video[0, 0, 0].copy()
    video[6][shown[6]] = empty
    video[11, 4:12, 4:12] = (250, 140, 190)
    video[12, 52:60, 4:12] = video[12, 4:12, 4:12] = (250, 140, 190)
    expected = [1] * 17
    expected[6], expected[11], expected[12] = 0, 2, 3
    assert counts(video) == tuple(expected)
    assert read(video).count == 1, "the video as a whole goes by most frames"


def test_an_empty_video_has_no_object_anywhere() -> None:
    assert counts(np.full((5, 32, 32, 3), 128, dtype=np.uint8)) == (0,) * 5


def without(video: np.ndarray, shown: np.ndarray, frames: range) -> np.ndarray:
    """The video with nothing but background where objects are, in some frames."""
    video = video.copy()
    for frame in frames:
        video[frame][shown[frame]] = video[0, 0, 0]
    return video


@pytest.mark.parametrize("missing", [1, 3, 7])
def test_an_object_that_is_missing_in_some_frames_is_not_steady(missing: int) -> None:
    """The video as a whole still goes by most frames."""
    for seed in range(6):
        scene = scene_from_seed(seed, L1)
        video, shown = render(scene), coverage(scene)[0] > 0
        assert steady(sightings(video), 1)
        first = 2 + seed % 7
        broken = without(video, shown, range(first, first + missing))
        assert read(broken).count == 1 and not steady(sightings(broken), 1)


def test_an_object_that_leaps_is_not_steady() -> None:
    story = parse("a small red ball stays still on a blue background")
    videos = (render(place(story, np.random.default_rng(seed))) for seed in range(100))
    video = next(each for each in videos if sightings(each)[0].places[0][0] < 0.3)
    assert steady(sightings(video), 1)
    leaping = video.copy()
    leaping[8] = video[8, :, ::-1]
    assert counts(leaping) == (1,) * 17 and not steady(sightings(leaping), 1)


@pytest.mark.parametrize("level", [L1, L2, L3])
@pytest.mark.parametrize("frames", [5, 9, 17])
def test_rendered_videos_are_steady_however_long(level, frames: int) -> None:
    for seed in range(8):
        scene = scene_from_seed(seed, level)
        seen = sightings(render(scene, num_frames=frames))
        assert steady(seen, len(scene.things)) and not steady(seen, len(scene.things) + 1)
