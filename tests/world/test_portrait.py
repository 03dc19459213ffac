import numpy as np
import pytest

from kinoform.world.portrait import GROUNDS, portrait
from kinoform.world.reader import read
from kinoform.world.sampling import L1, scene_from_seed


@pytest.mark.parametrize("seed", range(20))
def test_a_portrait_shows_who_the_object_is_and_nothing_of_its_video(seed: int) -> None:
    thing = scene_from_seed(seed, L1).things[0]
    image = portrait(thing, np.random.default_rng(seed), height=96, width=96)
    reading = read(image[None])
    assert reading.background.colour in GROUNDS
    (shown,) = reading.things
    assert (shown.colour, shown.shape) == (thing.subject.colour, thing.subject.shape)


def test_two_portraits_of_an_object_differ() -> None:
    thing, generator = scene_from_seed(1).things[0], np.random.default_rng(0)
    one, two = portrait(thing, generator), portrait(thing, generator)
    assert one.shape == (64, 64, 3) and not np.array_equal(one, two)
