import math

import numpy as np
import pytest

from kinoform.world.backgrounds import CHECKER, FIXED, PANS_LEFT, PLAIN, STRIPES, Background
from kinoform.world.motions import (
    BOUNCE,
    CIRCLE,
    DOWN,
    GROW,
    LEFT,
    MOTIONS,
    RIGHT,
    SHRINK,
    SPIN,
    STILL,
    UP,
    Freedom,
)
from kinoform.world.palette import BLUE, GRAY, GREEN, OBJECT_COLOURS, RED, WHITE
from kinoform.world.sampling import (
    L1,
    L2,
    L3,
    Difficulty,
    colour_is_held_out,
    is_held_out,
    motion_is_held_out,
    place,
    scene_from_seed,
)
from kinoform.world.scene import LARGE, MEDIUM, SIZES, Story, Subject
from kinoform.world.shapes import BALL, CROSS, RING, SHAPES, SQUARE, STAR, TRIANGLE
from tests.support.refusals import refused

LEVELS = pytest.mark.parametrize("level", [L1, L2, L3], ids=["L1", "L2", "L3"])
ON_BLUE = Background(colour=BLUE, texture=PLAIN)
FREEDOM = Freedom(amplitude=0.4, phase=0.3, sense=-1)
U = np.linspace(0, 1, 401)


@LEVELS
def test_a_seed_names_one_scene(level: Difficulty) -> None:
    assert scene_from_seed(7, level) == scene_from_seed(7, level)
    assert len({scene_from_seed(seed, level).things for seed in range(50)}) == 50


@LEVELS
def test_the_split_is_kept(level: Difficulty) -> None:
    for seed in range(100):
        seen = scene_from_seed(seed, level).story
        held = scene_from_seed(seed, level, held_out=True).story
        for subject in seen.subjects:
            assert not colour_is_held_out(subject.colour, subject.shape)
            assert not motion_is_held_out(subject.shape, subject.motion)
        assert is_held_out(held) and not is_held_out(seen)


def test_held_out_pairs_are_those_of_the_formula() -> None:
    colours = {(c.name, s.name) for c in OBJECT_COLOURS for s in SHAPES if colour_is_held_out(c, s)}
    assert ("red", "ball") in colours and ("white", "ball") in colours and ("green", "square") in colours
    # 5c + 3s = 0 mod 8 has one solution c mod 8 for each shape; colours 8 and 9 repeat 0 and 1.
    assert len(colours) == 6 + 2
    motions = {(s, m) for s in SHAPES for m in MOTIONS if motion_is_held_out(s, m)}
    assert motions == {
        (STAR, LEFT),
        (BALL, UP),
        (SQUARE, GROW),
        (RING, BOUNCE),
        (TRIANGLE, RIGHT),
        (CROSS, SHRINK),
    }


def test_levels_are_nested() -> None:
    for seed in range(100):
        one, two = scene_from_seed(seed, L1).story, scene_from_seed(seed, L2).story
        assert len(one.subjects) == len(two.subjects) == 1
        assert one.background.texture == PLAIN and one.camera == FIXED and one.subjects[0].size == MEDIUM
    stories = [scene_from_seed(seed, L3).story for seed in range(300)]
    assert {len(story.subjects) for story in stories} == {1, 2}
    assert {story.background.texture for story in stories} == {PLAIN, STRIPES, CHECKER}
    assert {subject.size for story in stories for subject in story.subjects} == set(SIZES)
    assert {subject.motion for story in stories for subject in story.subjects} == set(MOTIONS)
    assert len({story.camera for story in stories}) == 3


def test_one_object_stays_in_the_frame() -> None:
    for seed in range(150):
        (thing,) = scene_from_seed(seed, L1).things
        track = thing.subject.motion.track(U, thing.freedom)
        reach = thing.radius * track.scale * thing.subject.shape.reach
        for centre in (thing.x + track.dx, thing.y + track.dy):
            assert np.min(centre - reach) > -0.01 and np.max(centre + reach) < 1.01


def test_free_values_keep_their_ranges() -> None:
    for seed in range(100):
        for thing in scene_from_seed(seed, L2).things:
            assert abs(thing.radius / thing.subject.size.radius - 1) <= 0.075
            assert 0.34 <= thing.freedom.amplitude <= 0.44
            assert max(map(abs, thing.jitter)) <= 6
            assert max(thing.rgb) <= 255


@pytest.mark.parametrize(("motion", "x", "y"), [(LEFT, -1, 0), (RIGHT, 1, 0), (UP, 0, -1), (DOWN, 0, 1)])
def test_straight_motions_travel_their_amplitude(motion, x, y) -> None:
    track = motion.track(U, FREEDOM)
    assert track.dx[-1] - track.dx[0] == pytest.approx(0.4 * x)
    assert track.dy[-1] - track.dy[0] == pytest.approx(0.4 * y)
    assert track.dx.mean() == pytest.approx(0) and track.dy.mean() == pytest.approx(0)


def test_other_motions_follow_their_formulas() -> None:
    bounce = BOUNCE.track(U, FREEDOM).dy
    assert np.ptp(bounce) == pytest.approx(0.36)
    assert np.flatnonzero(np.isclose(bounce, bounce.max())).tolist() == [100, 300]
    assert np.ptp(np.stack([STILL.track(U, FREEDOM).dx, STILL.track(U, FREEDOM).angle])) == 0
    assert np.ptp(SPIN.track(U, FREEDOM).angle) == pytest.approx(math.radians(160))
    assert GROW.track(U, FREEDOM).scale[[0, -1]] == pytest.approx([0.6, 1.35])
    assert SHRINK.track(U, FREEDOM).scale[[0, -1]] == pytest.approx([1.35, 0.6])
    circle = CIRCLE.track(U, FREEDOM)
    assert np.hypot(circle.dx, circle.dy) == pytest.approx(np.full(401, 0.2))
    assert (circle.dx[0], circle.dy[0]) == pytest.approx((circle.dx[-1], circle.dy[-1]))


def test_two_objects_stand_left_and_right() -> None:
    pair = (
        Subject(colour=RED, shape=STAR, motion=UP, size=LARGE),
        Subject(colour=GREEN, shape=BALL, motion=STILL),
    )
    scene = place(Story(subjects=pair, background=ON_BLUE), np.random.default_rng(0))
    assert [thing.x for thing in scene.things] == [0.26, 0.74]
    assert scene.things[0].radius / (0.9 * 0.25) == pytest.approx(1, abs=0.075)


def test_videos_that_cannot_be_are_refused() -> None:
    ball = Subject(colour=RED, shape=BALL, motion=STILL)
    with refused("scene_impossible", "ball"):
        Subject(colour=RED, shape=BALL, motion=SPIN)
    with refused("unknown_name", "gray"):
        Subject(colour=GRAY, shape=BALL, motion=STILL)
    with refused("scene_impossible", "red"):
        Story(subjects=(ball,), background=Background(colour=RED, texture=PLAIN))
    with refused("scene_impossible", "circle"):
        Story(subjects=(ball, Subject(colour=WHITE, shape=STAR, motion=CIRCLE)), background=ON_BLUE)
    with refused("scene_impossible"):
        Story(subjects=(ball,), background=ON_BLUE, camera=PANS_LEFT)
    with refused("value_out_of_range", "0"):
        Story(subjects=(), background=ON_BLUE)
