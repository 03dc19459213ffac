import numpy as np
import pytest

from kinoform.world.pairs import KINDS, Pair, covered, draw_pair
from kinoform.world.render import render
from kinoform.world.sampling import L1, L3, Difficulty, is_held_out
from kinoform.world.scene import Scene
from tests.support.refusals import refused

SIZE = {"num_frames": 5, "height": 32, "width": 32}


def drawn(kind: str, level: Difficulty = L3, *, held_out: bool = False, count: int = 20) -> list[Pair]:
    generator = np.random.default_rng(3)
    return [draw_pair(kind, level, generator, held_out=held_out) for _ in range(count)]


def unlike(pair: Pair, scene: Scene, other: Scene) -> set[str]:
    """Names of what differs in the object that is edited."""
    one, two = scene.things[pair.index].subject, other.things[pair.index].subject
    return {name for name in ("colour", "shape", "motion", "size") if getattr(one, name) != getattr(two, name)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held_out", [False, True])
def test_a_target_lies_on_its_side_of_the_split_and_no_training_shows_what_is_held_out(
    kind: str, held_out: bool
) -> None:
    for pair in drawn(kind, held_out=held_out):
        assert is_held_out(pair.target.story) == held_out
        if not held_out:
            assert not is_held_out(pair.source.story)


@pytest.mark.parametrize(
    ("kind", "changed"), [("recolour", {"colour"}), ("reshape", {"shape"}), ("replace", {"colour", "shape"})]
)
def test_an_altered_object_differs_in_what_the_kind_says_alone(kind: str, changed: set[str]) -> None:
    found = [unlike(pair, pair.source, pair.target) for pair in drawn(kind)]
    assert all(each and each <= changed for each in found)
    assert set[str]().union(*found) == changed


@pytest.mark.parametrize(("kind", "before", "after"), [("remove", 2, 1), ("insert", 1, 2)])
def test_objects_go_and_come(kind: str, before: int, after: int) -> None:
    for pair in drawn(kind):
        assert (len(pair.source.things), len(pair.target.things)) == (before, after)
        assert len(pair.changed) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [L1, L3], ids=["L1", "L3"])
def test_beyond_what_is_covered_both_videos_are_the_same(kind: str, level: Difficulty) -> None:
    for pair in drawn(kind, level):
        source, target, touched = render(pair.source, **SIZE), render(pair.target, **SIZE), covered(pair, **SIZE)
        assert np.array_equal(source[~touched], target[~touched])
        assert not np.array_equal(source[touched], target[touched])


def test_another_kind_is_refused_by_name() -> None:
    with refused("unknown_name", "'repaint'"):
        draw_pair("repaint", L1, np.random.default_rng(0))
