"""Textures, sizes, the camera and two objects at every shipped size: right videos pass, and one change is seen."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from kinoform.world.backgrounds import CAMERAS, FIXED, PANS_LEFT, PANS_RIGHT, TEXTURES, Background
from kinoform.world.motions import PAIR_MOTIONS, SPIN, STILL
from kinoform.world.palette import BACKGROUND_COLOURS, OBJECT_COLOURS
from kinoform.world.reader import read
from kinoform.world.render import render
from kinoform.world.sampling import L1, L2, L3, Difficulty, place, sample_scene, sample_story
from kinoform.world.scene import LARGE, MEDIUM, SIZES, SMALL, Scene, Story
from kinoform.world.score import Score, compare
from kinoform.world.shapes import SHAPES

ATTRIBUTES = ("background", "texture", "camera", "count", "colour", "shape", "motion", "size")
LEVELS = {"L1": L1, "L2": L2, "L3": L3}
SIZES_IN_PIXELS = ((64, 64), (64, 112), (96, 96), (96, 176), (128, 128), (128, 224))
VIDEOS = 3


def wrong(score: Score) -> set[str]:
    return {name for name in ATTRIBUTES if not getattr(score, name)}


@pytest.mark.parametrize("num_frames", [17, 33])
@pytest.mark.parametrize(("height", "width"), SIZES_IN_PIXELS)
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_is_read_at_every_size(level: str, height: int, width: int, num_frames: int) -> None:
    for number in range(VIDEOS):
        # Other videos in every setting, half of them held out.
        generator = np.random.default_rng([num_frames, height, width, number])
        scene = sample_scene(LEVELS[level], generator, held_out=bool(number % 2))
        video = render(scene, num_frames=num_frames, height=height, width=width)
        assert wrong(compare(scene.story, read(video))) == set(), f"video {number}"


def drawn(level: Difficulty, seed: int, **wanted: object) -> Scene:
    """A scene of the level whose story has these: `count`, `panned`, `textured`."""
    generator = np.random.default_rng(seed)
    while True:
        story = sample_story(level, generator)
        facts = {
            "count": len(story.subjects),
            "panned": story.camera != FIXED,
            "textured": story.background.texture != TEXTURES[0],
        }
        if all(facts[name] == value for name, value in wanted.items()):
            return place(story, generator)


def changed(scene: Scene, which: int, **change: object) -> Scene:
    """The scene with one object's `colour`, `shape`, `motion` or `size` replaced."""
    old = scene.things[which]
    subject = replace(old.subject, **change)
    thing = replace(old, subject=subject, radius=old.radius * subject.size.radius / old.subject.size.radius)
    things = tuple(thing if place == which else other for place, other in enumerate(scene.things))
    return replace(scene, story=replace(scene.story, subjects=tuple(t.subject for t in things)), things=things)


def assert_only(name: str, asked: Story, shown: Scene, **size: int) -> None:
    """The video of `shown` is read as `shown`, and of all that was asked only `name` is wrong."""
    reading = read(render(shown, **size))
    assert wrong(compare(shown.story, reading)) == set()
    assert wrong(compare(asked, reading)) == {name}


def ground_changes(scene: Scene) -> Iterator[tuple[str, Scene]]:
    ground, taken = scene.story.background, [subject.colour for subject in scene.story.subjects]
    textures = [texture for texture in TEXTURES[1:] if texture != ground.texture]
    colour = next(colour for colour in BACKGROUND_COLOURS if colour not in (*taken, ground.colour))
    for texture in textures:
        yield "texture", with_ground(scene, replace(ground, texture=texture))
    yield "background", with_ground(scene, replace(ground, colour=colour))


def with_ground(scene: Scene, ground: Background) -> Scene:
    return replace(scene, story=replace(scene.story, background=ground))


def subject_changes(scene: Scene, which: int, generator: np.random.Generator) -> Iterator[tuple[str, Scene]]:
    """One of every attribute's other values, for one object; motions that any shape shows."""
    subject, ground = scene.things[which].subject, scene.story.background.colour
    taken = {ground, *(thing.subject.colour for thing in scene.things)}
    motions = (STILL,) if scene.story.camera != FIXED else tuple(m for m in PAIR_MOTIONS if m != SPIN)
    values = {
        "colour": [colour for colour in OBJECT_COLOURS if colour not in taken],
        "shape": [shape for shape in SHAPES if shape != subject.shape and (shape.fold or subject.motion != SPIN)],
        "motion": [motion for motion in motions if motion != subject.motion],
    }
    for name, others in values.items():
        if others:
            yield name, changed(scene, which, **{name: others[int(generator.integers(len(others)))]})


@pytest.mark.parametrize("seed", range(6))
def test_one_change_of_a_textured_video_is_the_one_judged_wrong(seed: int) -> None:
    scene = drawn(L2, seed, textured=True, panned=False)
    for name, shown in (*ground_changes(scene), *subject_changes(scene, 0, np.random.default_rng(seed))):
        assert_only(name, scene.story, shown)


@pytest.mark.parametrize("seed", range(4))
def test_one_change_of_a_panned_video_is_the_one_judged_wrong(seed: int) -> None:
    scene = drawn(L2, seed, panned=True)
    for name, shown in (*ground_changes(scene), *subject_changes(scene, 0, np.random.default_rng(seed))):
        assert_only(name, scene.story, shown)


@pytest.mark.parametrize(("asked", "shown"), [pair for pair in product(CAMERAS, CAMERAS) if pair[0] != pair[1]])
@pytest.mark.parametrize("texture", TEXTURES[1:], ids=lambda texture: texture.name)
def test_another_camera_is_judged_wrong(asked, shown, texture) -> None:
    scene = drawn(L2, 3, panned=True)
    story = replace(scene.story, background=replace(scene.story.background, texture=texture))
    video = replace(scene, story=replace(story, camera=shown), drift=0.36 * shown.drift)
    assert_only("camera", replace(story, camera=asked), video)


@pytest.mark.parametrize(("asked", "shown"), [(SMALL, MEDIUM), (SMALL, LARGE), (LARGE, MEDIUM), (LARGE, SMALL)])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_another_size_is_judged_wrong(asked, shown, shape) -> None:
    scene = changed(drawn(L2, 8, panned=False), 0, motion=STILL, shape=shape)
    assert_only("size", changed(scene, 0, size=asked).story, changed(scene, 0, size=shown))


def test_a_size_that_is_not_said_is_free() -> None:
    scene = drawn(L2, 8, panned=False)
    asked = changed(scene, 0, size=MEDIUM).story
    for size in SIZES:
        assert wrong(compare(asked, read(render(changed(scene, 0, size=size))))) == set()


@pytest.mark.parametrize("which", [0, 1], ids=["left", "right"])
@pytest.mark.parametrize("seed", range(5))
def test_one_change_of_either_object_is_the_one_judged_wrong(seed: int, which: int) -> None:
    scene = drawn(L3, seed, count=2)
    for name, shown in subject_changes(scene, which, np.random.default_rng(seed)):
        assert_only(name, scene.story, shown)
    small, large = (changed(scene, which, size=size) for size in (SMALL, LARGE))
    assert_only("size", small.story, large)
    assert_only("size", large.story, small)


@pytest.mark.parametrize("seed", range(5))
def test_two_objects_in_the_other_order_are_judged_wrong(seed: int) -> None:
    scene = drawn(L3, seed, count=2)
    left, right = scene.story.subjects
    swapped = replace(scene.story, subjects=(right, left))
    different = {name for name in ("colour", "shape", "motion") if getattr(left, name) != getattr(right, name)}
    judged = wrong(compare(swapped, read(render(scene))))
    assert "colour" in different and judged - {"size"} == different


@pytest.mark.parametrize("seed", range(5))
def test_a_missing_or_added_object_is_judged_wrong(seed: int) -> None:
    pair = drawn(L3, seed, count=2)
    for kept in (0, 1):
        alone = replace(
            pair, story=replace(pair.story, subjects=(pair.story.subjects[kept],)), things=(pair.things[kept],)
        )
        assert wrong(compare(pair.story, read(render(alone)))) >= {"count", "colour", "shape", "motion"}
        assert wrong(compare(alone.story, read(render(pair)))) >= {"count", "colour", "shape", "motion"}


@pytest.mark.parametrize("camera", [PANS_LEFT, PANS_RIGHT], ids=lambda camera: camera.name)
@pytest.mark.parametrize(("height", "width"), SIZES_IN_PIXELS[1::2])
def test_one_change_is_seen_in_wide_videos(height: int, width: int, camera) -> None:
    scene = drawn(L2, 1, panned=True)
    scene = replace(scene, story=replace(scene.story, camera=camera), drift=0.4 * camera.drift)
    size = {"num_frames": 33, "height": height, "width": width}
    for name, shown in (*ground_changes(scene), *subject_changes(scene, 0, np.random.default_rng(1))):
        assert_only(name, scene.story, shown, **size)
