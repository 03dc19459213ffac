"""The interval of a paired difference: values worked out elsewhere, symmetry, and how often it holds the truth."""

import math

import pytest

from kinoform.evaluation.report import paired_interval
from tests.support.refusals import refused


def test_intervals_are_those_worked_out_by_hand() -> None:
    # p12 = 27/50, p21 = 5/50: .44 -+ 1.95996 sqrt((.64 - .1936) / 50); the example of ci.prop.ps in R's statpsych.
    assert paired_interval(4, 26, 48) == pytest.approx((0.2548067, 0.6251933), abs=1e-7)
    # p12 = 11/102, p21 = 5/102: 6/102 -+ 1.95996 sqrt((16/102 - 36/10404) / 102).
    assert paired_interval(4, 10, 100) == pytest.approx((-0.0171855, 0.1348325), abs=1e-6)
    # No pair differs: 0 -+ 1.95996 sqrt(2) / 10.
    assert paired_interval(0, 0, 8) == pytest.approx((-0.2771808, 0.2771808), abs=1e-7)


@pytest.mark.parametrize(("first", "other", "trials"), [(0, 0, 0), (3, 3, 40), (1, 9, 40), (0, 40, 40), (20, 20, 40)])
def test_the_sides_can_be_exchanged(first: int, other: int, trials: int) -> None:
    low, high = paired_interval(first, other, trials)
    assert paired_interval(other, first, trials) == pytest.approx((-high, -low))
    assert -1 <= low <= (other - first) / max(trials, 1) <= high <= 1


def test_zero_is_excluded_only_by_enough_pairs_on_one_side() -> None:
    assert all(low < 0 < high for low, high in (paired_interval(same, same, 200) for same in range(101)))
    lows = [paired_interval(2, other, 200)[0] for other in range(2, 199)]
    assert lows == sorted(lows)
    first = 2 + next(place for place, low in enumerate(lows) if low > 0)
    # 2 against 11 has an exact two-sided P of .022 (sign test), 2 against 7 one of .18.
    assert 8 <= first <= 11


@pytest.mark.parametrize(("p12", "p21"), [(0.2, 0.1), (0.05, 0.05), (0.3, 0.02)])
def test_it_holds_the_truth_nineteen_times_in_twenty(p12: float, p21: float) -> None:
    """Over all outcomes of 60 pairs, each weighed by its probability; more often where few pairs differ."""
    trials, covered = 60, 0.0
    for other in range(trials + 1):
        for first in range(trials + 1 - other):
            low, high = paired_interval(first, other, trials)
            ways = math.comb(trials, other) * math.comb(trials - other, first)
            chance = ways * p12**other * p21**first * (1 - p12 - p21) ** (trials - other - first)
            covered += chance * (low <= p12 - p21 <= high)
    assert 0.94 <= covered <= 0.99


@pytest.mark.parametrize("counts", [(-1, 0, 5), (0, -1, 5), (3, 3, 5)])
def test_counts_that_cannot_be_are_refused(counts: tuple[int, int, int]) -> None:
    with refused("value_out_of_range"):
        paired_interval(*counts)
