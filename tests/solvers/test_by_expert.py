"""Numbers of experts are told by name, travel between processes, and are written as they are read."""

import pickle

import pytest

from kinoform.solvers.by_expert import (
    as_json,
    check_per_expert,
    expert_names,
    numbers_by_name,
    read_written,
    written,
)

BOTH = numbers_by_name([("high", 4.0), ("low", 2.5)])


def test_two_are_high_and_low_and_more_are_numbered() -> None:
    assert [expert_names(count) for count in (1, 2, 3)] == [("1",), ("high", "low"), ("1", "2", "3")]


def test_numbers_are_one_value_whatever_the_order_in_which_they_were_said() -> None:
    said = check_per_expert("scale", {"low": 2.5, "high": 4}, 2, 0.0, 10.0)
    assert said == BOTH == {"high": 4.0, "low": 2.5} and hash(said) == hash(BOTH)
    swapped = numbers_by_name([("low", 2.5), ("high", 4.0)])
    assert swapped == BOTH and hash(swapped) == hash(BOTH)
    assert pickle.loads(pickle.dumps(BOTH)) == BOTH != numbers_by_name([("high", 2.5), ("low", 4.0)])


@pytest.mark.parametrize(("value", "text"), [(4.0, "4"), (0.875, "0.875"), (BOTH, "high=4,low=2.5")])
def test_what_is_written_is_read(value: float, text: str) -> None:
    assert written(value) == text and read_written("scale", text) == value
    assert as_json(value) == value
