"""Objects in colours that no word tells."""

from collections.abc import Iterable

import numpy as np
import pytest

from kinoform.world.palette import BACKGROUND_COLOURS, OBJECT_COLOURS, Colour
from kinoform.world.portrait import is_off_palette, off_palette_colour, portrait, recoloured
from kinoform.world.render import render
from kinoform.world.sampling import L1, colour_is_held_out, scene_from_seed
from kinoform.world.shapes import SHAPES, Shape


def nearest(rgb: tuple[int, int, int], colours: Iterable[Colour]) -> Colour:
    return min(colours, key=lambda colour: sum((a - b) ** 2 for a, b in zip(colour.rgb, rgb, strict=True)))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_no_dye_is_near_to_a_colour_that_training_never_shows_with_the_shape(shape: Shape) -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        assert not colour_is_held_out(nearest(off_palette_colour(shape, generator), OBJECT_COLOURS), shape)


def test_no_dye_is_near_to_what_it_must_not_be() -> None:
    generator = np.random.default_rng(0)
    for ground in BACKGROUND_COLOURS:
        found = [nearest(off_palette_colour(SHAPES[0], generator, ground), BACKGROUND_COLOURS) for _ in range(40)]
        assert ground not in found and len(set(found)) > 4


def test_a_video_and_a_portrait_show_the_dye() -> None:
    scene, rgb = scene_from_seed(3, L1), (90, 10, 200)
    (thing,), (plain,) = recoloured(scene, rgb).things, scene.things
    assert thing.rgb == rgb and is_off_palette(thing) and not is_off_palette(plain)
    assert recoloured(scene, rgb).story == scene.story
    generator = np.random.default_rng(2)
    for pixels in (render(recoloured(scene, rgb))[0], portrait(thing, generator, rgb=rgb)):
        assert (pixels == rgb).all(-1).mean() > 0.05
    assert not (render(scene)[0] == rgb).all(-1).any()
