import math

import numpy as np
import pytest

from kinoform.world.fidelity import foreground_psnr, psnr
from kinoform.world.parse import parse
from kinoform.world.render import coverage, render
from kinoform.world.sampling import L1, place, scene_from_seed
from kinoform.world.scene import Scene
from tests.support.refusals import refused

BALL = "a white ball grows on a blue background"


def scene_of(sentence: str = BALL) -> Scene:
    return place(parse(sentence), np.random.default_rng(0))


def shifted(video: np.ndarray, by: int) -> np.ndarray:
    """Every value `by` levels nearer to the middle of the range."""
    return np.where(video < 128, video + by, video - by).astype(np.uint8)


@pytest.mark.parametrize("error", [1, 5, 20])
def test_a_known_error_everywhere_is_the_same_everywhere(error: int) -> None:
    scene = scene_of()
    rendered = render(scene)
    expected = 20 * math.log10(255 / error)
    assert psnr(shifted(rendered, error), rendered) == pytest.approx(expected)
    assert foreground_psnr(shifted(rendered, error), rendered, coverage(scene)) == pytest.approx(expected)


def test_an_exact_video_has_no_error() -> None:
    scene = scene_of()
    video = render(scene)
    assert psnr(video, video) == foreground_psnr(video, video, coverage(scene)) == math.inf


def test_only_errors_on_an_object_count_in_the_foreground() -> None:
    scene = scene_of()
    rendered, cover = render(scene), coverage(scene)
    inside = cover.max(axis=0) > 0.5
    behind = np.where(inside[..., None], rendered, shifted(rendered, 10))
    assert foreground_psnr(behind, rendered, cover) == math.inf
    assert psnr(behind, rendered) == pytest.approx(10 * math.log10(255**2 / 100 / (1 - inside.mean())))
    before = np.where(inside[..., None], shifted(rendered, 10), rendered)
    assert foreground_psnr(before, rendered, cover) == pytest.approx(20 * math.log10(25.5))
    assert psnr(before, rendered) == pytest.approx(10 * math.log10(255**2 / 100 / inside.mean()))


def test_both_of_two_objects_are_foreground() -> None:
    scene = scene_of("a red square stays still and a white ball stays still on a blue background")
    rendered, cover = render(scene), coverage(scene)
    for thing in cover:
        video = np.where(thing[..., None] > 0.5, shifted(rendered, 60), rendered)
        assert foreground_psnr(video, rendered, cover) < 20


@pytest.mark.parametrize("seed", range(6))
def test_videos_of_another_scene_or_without_the_object_fail(seed: int) -> None:
    scene = scene_from_seed(seed, L1)
    rendered, cover = render(scene), coverage(scene)
    other = render(scene_from_seed(seed + 100, L1))
    assert psnr(other, rendered) < 15
    assert foreground_psnr(other, rendered, cover) < 20
    empty = np.broadcast_to(rendered[:1, :1, :1], rendered.shape).copy()
    assert foreground_psnr(empty, rendered, cover) < 15
    assert psnr(empty, rendered) > foreground_psnr(empty, rendered, cover) + 5
    late = np.roll(render(scene_of("a red star moves left on a white background")), 4, axis=0)
    moving = scene_of("a red star moves left on a white background")
    assert foreground_psnr(late, render(moving), coverage(moving)) < 15


def test_videos_that_do_not_fit_are_refused() -> None:
    scene = scene_of()
    video = render(scene)
    with refused("sizes_differ", "1x64x64", "17x64x64"):
        psnr(video[:1], video)
    with refused("sizes_differ", "5x64x64"):
        foreground_psnr(video, video, coverage(scene, num_frames=5))
    with refused("scene_empty"):
        foreground_psnr(video, video, np.zeros((1, 17, 64, 64), dtype=np.float32))
