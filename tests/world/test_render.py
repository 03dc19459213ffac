from dataclasses import replace

import numpy as np
import pytest

from kinoform.world.backgrounds import CHECKER, FIXED, PANS_LEFT, PLAIN, STRIPES, Background
from kinoform.world.motions import SPIN, STILL, Freedom
from kinoform.world.palette import BLUE, GRAY, RED, YELLOW
from kinoform.world.render import coverage, render
from kinoform.world.sampling import L3, scene_from_seed
from kinoform.world.scene import Scene, Story, Subject, Thing
from kinoform.world.shapes import SHAPES, SQUARE, STAR
from tests.support.refusals import refused


def scene_of(shape, *, texture=PLAIN, camera=FIXED, motion=STILL) -> Scene:
    story = Story(
        subjects=(Subject(colour=RED, shape=shape, motion=motion),),
        background=Background(colour=BLUE, texture=texture),
        camera=camera,
    )
    freedom = Freedom(amplitude=0.4, phase=0.0, sense=1)
    thing = Thing(subject=story.subjects[0], x=0.5, y=0.5, radius=0.3, freedom=freedom, jitter=(0, 0, 0))
    return Scene(story=story, things=(thing,), drift=0.4 * camera.drift)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_coverage_adds_up_to_the_area(shape) -> None:
    cover = coverage(scene_of(shape), num_frames=1, height=128, width=128)
    assert float(cover.sum()) / 128**2 == pytest.approx(shape.area * 0.3**2, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_shapes_are_centred_and_have_their_folds_and_reach(shape) -> None:
    cover = coverage(scene_of(shape), num_frames=1, height=128, width=128)[0, 0]
    places = (np.arange(128) + 0.5) / 128
    assert cover.sum(0) @ places / cover.sum() == pytest.approx(0.5, abs=2e-3)
    assert cover.sum(1) @ places / cover.sum() == pytest.approx(0.5, abs=2e-3)
    x, y = np.meshgrid(places, places)
    farthest = np.hypot(x - 0.5, y - 0.5)[cover > 0.5].max()
    assert farthest == pytest.approx(0.3 * shape.reach, abs=0.02)
    if shape.fold:
        turn = 2 * np.pi / shape.fold
        x, y = x - 0.5, y - 0.5
        turned = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        assert shape.distance(*turned) == pytest.approx(shape.distance(x, y), abs=1e-6)


def test_edges_are_one_pixel_wide() -> None:
    video = render(scene_of(SQUARE), num_frames=1, height=100, width=100)[0, 50].astype(int)
    # The square spans 0.254 to 0.746 of the frame, so the pixels 25 and 74 are 60 % covered.
    assert (video[:25] == BLUE.rgb).all() and (video[26:74] == RED.rgb).all() and (video[75:] == BLUE.rgb).all()
    mixed = np.array(BLUE.rgb) + 0.6 * (np.array(RED.rgb) - BLUE.rgb)
    assert np.abs(video[[25, 74]] - mixed).max() <= 1


def test_one_corner_points_up_until_it_spins() -> None:
    still = coverage(scene_of(STAR), num_frames=3)[0]
    spun = coverage(scene_of(STAR, motion=SPIN), num_frames=3)[0]
    top = np.flatnonzero(still[0].any(axis=1))[0]
    assert set(np.flatnonzero(still[0, top])) <= {31, 32}
    assert (still[0] == still[-1]).all() and (spun[0] == still[0]).all()
    assert np.abs(spun[-1] - still[0]).max() > 0.5


@pytest.mark.parametrize("seed", range(12))
def test_a_wide_video_is_the_square_one_with_more_background(seed: int) -> None:
    scene = scene_from_seed(seed, L3)
    wide, square = render(scene, width=112), render(scene)
    assert (wide[:, :, 24:88] == square).all()
    tall = render(scene, height=112)
    assert (tall[:, 24:88] == square).all()


@pytest.mark.parametrize("texture", [PLAIN, STRIPES, CHECKER], ids=lambda texture: texture.name)
def test_textures_go_on_with_their_period(texture) -> None:
    video = render(scene_of(STAR, texture=texture), width=128).astype(int)
    edge, later = video[:, :, :16], video[:, :, 112:128]
    assert np.abs(edge - later).max() <= 1
    assert (np.ptp(edge.astype(int), axis=2) > 10).any() == (texture != PLAIN)
    assert (np.ptp(edge.astype(int), axis=1) > 10).any() == (texture == CHECKER)


def test_the_second_shade_is_mixed_with_gray_and_grays_with_white() -> None:
    scene = scene_of(STAR, texture=STRIPES)
    for colour, other in ((YELLOW, (128, 128, 128)), (GRAY, (245, 245, 245))):
        ground = Background(colour=colour, texture=STRIPES)
        video = render(replace(scene, story=replace(scene.story, background=ground)), num_frames=1)
        shades = {tuple(pixel) for pixel in video[0, 0].tolist()}
        mixed = tuple(round(a + 0.22 * (b - a)) for a, b in zip(colour.rgb, other, strict=True))
        assert colour.rgb in shades and mixed in shades


def test_a_pan_moves_background_and_object_together() -> None:
    video = render(scene_of(STAR, texture=CHECKER, camera=PANS_LEFT), num_frames=3, height=80, width=80)
    # The drift is 0.4 of the frame: 16 pixels to the right from each of the three frames to the next.
    assert np.abs(video[1, :, 16:].astype(int) - video[0, :, :-16]).max() <= 1


def test_frames_and_sizes_show_the_same_video() -> None:
    scene = scene_from_seed(3, L3)
    video = render(scene)
    assert np.abs(render(scene, num_frames=9).astype(int) - video[::2]).max() <= 1
    large = render(scene, height=128, width=128).astype(float)
    halved = large.reshape(17, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - video).mean() < 1


def test_an_empty_video_is_refused() -> None:
    with refused("value_out_of_range", "0 frames"):
        render(scene_from_seed(0), num_frames=0)
