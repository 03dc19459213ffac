import numpy as np
import pytest

from kinoform.world.backgrounds import FIXED, PLAIN, Background
from kinoform.world.motions import CIRCLE, LEFT
from kinoform.world.palette import BLUE, GREEN, RED
from kinoform.world.parse import parse
from kinoform.world.reader import Observed, VideoReading
from kinoform.world.sampling import L1, L3
from kinoform.world.scene import MEDIUM, SMALL
from kinoform.world.score import chance, compare, wilson
from kinoform.world.shapes import BALL, RING
from tests.support.refusals import refused

ASKED = parse("a red ball moves left on a blue background")


def shown(*, colour=RED, shape=BALL, motion=LEFT, size=MEDIUM, ground=BLUE, count=1) -> VideoReading:
    thing = Observed(colour=colour, shape=shape, motion=motion, size=size, area=0.1, path=((0.5, 0.5),))
    return VideoReading(
        background=Background(colour=ground, texture=PLAIN),
        camera=FIXED,
        count=count,
        things=(thing,) * count,
    )


def test_what_is_asked_is_right() -> None:
    score = compare(ASKED, shown())
    assert score.all_right and score.size and not score.binding_error


@pytest.mark.parametrize(
    ("name", "change"),
    [("colour", GREEN), ("shape", RING), ("motion", CIRCLE), ("background", GREEN)],
)
def test_each_error_is_named_and_spoils_the_whole(name: str, change) -> None:
    score = compare(ASKED, shown(**{"ground" if name == "background" else name: change}))
    assert not getattr(score, name) and not score.all_right
    others = {"colour", "shape", "motion", "background", "texture", "camera", "count"} - {name}
    assert all(getattr(score, other) for other in others)


@pytest.mark.parametrize("count", [0, 2])
def test_a_wrong_count_makes_the_objects_wrong(count: int) -> None:
    score = compare(ASKED, shown(count=count))
    assert not (score.count or score.colour or score.shape or score.motion or score.size or score.all_right)
    assert score.background and score.texture and score.camera


def test_a_background_in_the_objects_colour_is_a_binding_error() -> None:
    assert compare(ASKED, shown(ground=RED)).binding_error
    assert not compare(ASKED, shown(ground=GREEN)).binding_error


def test_size_is_judged_where_a_word_says_it() -> None:
    assert compare(ASKED, shown(size=SMALL)).size
    large = parse("a large red ball moves left on a blue background")
    score = compare(large, shown(size=SMALL))
    assert not score.size and score.all_right


def test_wilson_intervals_are_the_published_ones() -> None:
    assert wilson(190, 200) == pytest.approx((0.9104, 0.9726), abs=2e-4)
    # Newcombe (1998), table I: 81/263, 15/148, 0/20, 1/29.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    with refused("value_out_of_range", "5", "4"):
        wilson(5, 4)


def test_chance_is_what_blind_guesses_reach() -> None:
    level = chance(L1)
    assert level.all_right == pytest.approx(1 / 11 / 10 / 6 / 10)
    assert chance(L3).all_right == pytest.approx(level.all_right / 3 / 3 / 2)
    generator = np.random.default_rng(0)
    # However unevenly the truth is distributed, a uniform guess among six is right one time in six.
    truth, guess = np.zeros(60000), generator.integers(0, 6, 60000)
    assert float(np.mean(truth == guess)) == pytest.approx(level.shape, abs=0.01)
