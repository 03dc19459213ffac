from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from kinoform.world.backgrounds import CHECKER, PLAIN, STRIPES, Background
from kinoform.world.motions import CIRCLE, MOTIONS, SPIN, STILL
from kinoform.world.palette import BACKGROUND_COLOURS, BLACK, GREEN, OBJECT_COLOURS, RED, WHITE
from kinoform.world.reader import read
from kinoform.world.render import coverage, render
from kinoform.world.sampling import L1, L2, L3, place, scene_from_seed
from kinoform.world.scene import LARGE, Story, Subject
from kinoform.world.score import Score, compare
from kinoform.world.shapes import CROSS, RING, SHAPES, STAR

ATTRIBUTES = ("background", "texture", "camera", "count", "colour", "shape", "motion", "size")


def rates(level, videos, *, held_out=False, spoil=lambda video: video, **size) -> dict[str, float]:
    right = Counter()
    for seed in range(videos):
        scene = scene_from_seed(seed, level, held_out=held_out)
        score = compare(scene.story, read(spoil(render(scene, **size))))
        right.update({name: getattr(score, name) for name in ATTRIBUTES})
    return {name: right[name] / videos for name in ATTRIBUTES}


def judged(asked: Story, shown: Story, seed: int = 0, **size) -> Score:
    """The score, against one story, of a video of another that shares all free values."""
    return compare(asked, read(render(place(shown, np.random.default_rng(seed)), **size)))


def wrong(score: Score) -> set[str]:
    return {name for name in ATTRIBUTES if not getattr(score, name)}


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize(("level", "videos"), [(L1, 60), (L2, 25), (L3, 25)], ids=["L1", "L2", "L3"])
def test_rendered_videos_are_read_right(level, videos, held_out) -> None:
    assert min(rates(level, videos, held_out=held_out).values()) >= 0.99


def softened(video: np.ndarray, rounds: int = 1) -> np.ndarray:
    """Blurred by (1, 2, 1) / 4 along both axes, so many times."""
    soft = video.astype(np.float32)
    for axis in (1, 2) * rounds:
        soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
    return soft


def test_noise_and_blur_do_not_change_the_reading() -> None:
    generator = np.random.default_rng(0)

    def spoil(video: np.ndarray) -> np.ndarray:
        soft = softened(video)
        return np.clip(soft + generator.normal(0, 8, soft.shape), 0, 255).astype(np.uint8)

    assert min(rates(L1, 25, spoil=spoil).values()) >= 0.96


@pytest.mark.parametrize("shape", [STAR, CROSS, RING], ids=lambda shape: shape.name)
def test_soft_edges_do_not_change_the_colour(shape) -> None:
    subject = Subject(colour=WHITE, shape=shape, motion=STILL)
    story = Story(subjects=(subject,), background=Background(colour=BLACK, texture=PLAIN))
    video = render(place(story, np.random.default_rng(0)), num_frames=2)
    assert wrong(compare(story, read(softened(video, rounds=4).astype(np.uint8)))) == set()


def with_subject(story: Story, **change) -> Story:
    return replace(story, subjects=(replace(story.subjects[0], **change),))


@pytest.mark.parametrize("seed", range(5))
def test_one_changed_attribute_is_the_one_judged_wrong(seed: int) -> None:
    generator = np.random.default_rng(seed)
    story = with_subject(scene_from_seed(seed, L1).story, shape=SHAPES[1 + seed % 3])
    (subject,) = story.subjects
    assert wrong(judged(story, story, seed)) == set()

    def other(values, *taken):
        left = [value for value in values if value not in taken]
        return left[int(generator.integers(len(left)))]

    ground = other(BACKGROUND_COLOURS, story.background.colour, subject.colour)
    colour = other(OBJECT_COLOURS, story.background.colour, subject.colour)
    changed = {
        "background": replace(story, background=Background(colour=ground, texture=PLAIN)),
        "texture": replace(story, background=replace(story.background, texture=other((STRIPES, CHECKER)))),
        "colour": with_subject(story, colour=colour),
        "motion": with_subject(story, motion=other(MOTIONS, subject.motion)),
    }
    for name, shown in changed.items():
        assert wrong(judged(story, shown, seed)) == {name}
    moving = with_subject(story, motion=other(MOTIONS, SPIN))
    shape = other(SHAPES, subject.shape)
    assert wrong(judged(moving, with_subject(moving, shape=shape), seed)) == {"shape"}


def test_an_object_in_a_video_without_one_is_not_seen() -> None:
    scene = scene_from_seed(0, L2)
    reading = read(render(replace(scene, things=())))
    assert reading.count == 0 and reading.things == ()
    assert reading.background == scene.story.background


@pytest.mark.parametrize("seed", range(4))
def test_touching_objects_are_told_apart(seed: int) -> None:
    star = Subject(colour=RED, shape=STAR, motion=STILL, size=LARGE)
    pair = Story(
        subjects=(star, replace(star, colour=WHITE, shape=CROSS)),
        background=Background(colour=GREEN, texture=STRIPES),
    )
    apart = place(pair, np.random.default_rng(seed))
    left, right = apart.things
    touching = replace(apart, things=(replace(left, x=0.32, y=0.5), replace(right, x=0.68, y=0.5)))
    assert coverage(touching).min(axis=0).max() == 1
    assert wrong(compare(pair, read(render(touching)))) == set()


def test_the_path_is_the_objects() -> None:
    subject = Subject(colour=RED, shape=STAR, motion=CIRCLE)
    story = Story(subjects=(subject,), background=Background(colour=GREEN, texture=PLAIN))
    scene = place(story, np.random.default_rng(4))
    (thing,) = scene.things
    track = CIRCLE.track(np.linspace(0, 1, 17), thing.freedom)
    (seen,) = read(render(scene)).things
    expected = np.stack([thing.x + track.dx, thing.y + track.dy], axis=1)
    assert np.array(seen.path) == pytest.approx(expected, abs=0.005)
    assert seen.area == pytest.approx(STAR.area * thing.radius**2, rel=0.03)


@pytest.mark.parametrize("shape", [(17, 64, 64, 3), (1, 64, 64, 3), (2, 1, 1, 3), (5, 8, 24, 3), (3, 2, 2, 3)])
def test_any_video_can_be_read(shape) -> None:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, shape, dtype=np.uint8)
    halves = np.where(np.arange(shape[2])[:, None] < shape[2] // 2, noise[:, :1, :1], 255 - noise[:, :1, :1])
    videos = [noise, np.broadcast_to(halves, shape), np.zeros(shape, np.uint8), noise // 32 + 100]
    for video in videos:
        reading = read(np.ascontiguousarray(video).astype(np.uint8))
        assert reading.count >= len(reading.things)
