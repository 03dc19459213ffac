"""Distributions of noise levels: their shapes against formulas, their parts, and ranges told as timesteps."""

import math

import pytest
import torch

from kinoform.training.levels import (
    GridLevels,
    InvertibleLevels,
    Levels,
    LevelSampling,
    LogitNormalLevels,
    ModeLevels,
    level_range,
    level_shares,
)
from tests.support.refusals import refused

KINDS: dict[str, InvertibleLevels] = {
    "uniform": LevelSampling(shift=1.0),
    "shifted": LevelSampling(shift=5.0),
    "logit-normal": LogitNormalLevels(),
    "logit-normal, shifted": LogitNormalLevels(mean=0.3, std=1.4, shift=3.0),
    "mode": ModeLevels(),
    "mode, shifted": ModeLevels(scale=-0.8, shift=2.0),
    "grid": GridLevels(),
    "coarse grid": GridLevels(shift=3.0, count=7),
}


def draws(levels: Levels, count: int = 20000) -> torch.Tensor:
    return levels.draw((count,), torch.Generator().manual_seed(3), 0)


@pytest.mark.parametrize("name", KINDS)
def test_a_share_of_the_levels_lies_below_its_quantile(name: str) -> None:
    levels = KINDS[name]
    sigma = draws(levels)
    assert sigma.dtype == torch.float32 and sigma.min() > 0 and sigma.max() < 1
    for level in (0.0, 0.05, 0.3, 0.6, 0.875, 0.9, 0.97, 1.0):
        share = levels.share_below(level, 0)
        assert (sigma.double() < level).double().mean() == pytest.approx(share, abs=0.002), level
    assert [levels.share_below(end, 0) for end in (0.0, 1.0)] == pytest.approx([0, 1])


@pytest.mark.parametrize("name", [name for name in KINDS if "grid" not in name])
def test_the_quantile_of_a_share_is_the_level(name: str) -> None:
    for level in (0.02, 0.4, 0.9, 0.99):
        share = torch.tensor(KINDS[name].share_below(level, 0), dtype=torch.float64)
        assert float(KINDS[name].quantile(share, 0)) == pytest.approx(level, abs=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_the_parts_of_two_experts_are_the_whole(name: str) -> None:
    """Each has the density of the whole: together, as often as the whole has them, they have its histogram."""
    levels, boundary = KINDS[name], 0.875
    below = levels.share_below(boundary, 0)
    low, high = draws(levels.within(0.0, boundary)).double(), draws(levels.within(boundary, 1.0)).double()
    assert low.max() < boundary <= high.min() and high.max() < 1
    parts = zip(level_shares(low), level_shares(high), strict=True)
    assert [below * one + (1 - below) * other for one, other in parts] == pytest.approx(
        list(level_shares(draws(levels))), abs=0.003
    )


def test_logit_normal_levels_are_sigmoids_of_a_normal_and_a_shift_is_a_mean() -> None:
    levels = LogitNormalLevels(mean=0.4, std=1.3)
    logits = torch.logit(draws(levels).double())
    assert float(logits.mean()) == pytest.approx(0.4, abs=0.01) and float(logits.std()) == pytest.approx(1.3, abs=0.01)
    u = torch.linspace(0.01, 0.99, 9, dtype=torch.float64)
    shifted, moved = LogitNormalLevels(shift=3.0), LogitNormalLevels(mean=math.log(3.0))
    torch.testing.assert_close(shifted.quantile(u, 0), moved.quantile(u, 0))


def test_mode_levels_are_those_of_the_paper() -> None:
    """Esser et al. 2024, equation 20: f(u) = 1 - u - s (cos²(pi u / 2) - 1 + u)."""
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    paper = 1 - u - 1.29 * (torch.cos(math.pi * u / 2).square() - 1 + u)
    torch.testing.assert_close(ModeLevels(scale=1.29).quantile(1 - u, 0), paper)
    assert torch.equal(ModeLevels(scale=0.0).quantile(u, 0), u)


def test_grid_levels_are_the_entries_and_no_others() -> None:
    """Of 1000 entries at shift 5, 358 are at timesteps from 900 on, as DiffSynth's index fraction .358 says."""
    entries = torch.tensor([k / 1000 for k in range(1, 1001)], dtype=torch.float64)
    grid = 5 * entries / (1 + 4 * entries)
    assert set(draws(GridLevels(), 4000).tolist()) <= {*grid.float().tolist(), 1 - 2.0**-24}
    assert round(1000 * (1 - GridLevels().share_below(0.9, 0))) == 358
    high = draws(GridLevels(stratified=False).within(0.9, 1.0)).double()
    assert float(high.min()) == pytest.approx(float(grid[grid >= 0.9].min()), abs=1e-7)


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_has_one_level_in_each_part_of_the_distribution(name: str) -> None:
    levels = KINDS[name]
    shares = sorted(levels.share_below(sigma, 0) for sigma in draws(levels, 16).tolist())
    slack = 1 / 7 if name == "coarse grid" else 2e-3
    assert all(index / 16 - slack <= share <= (index + 1) / 16 + slack for index, share in enumerate(shares))


def test_a_range_without_levels_and_numbers_out_of_range_are_refused() -> None:
    with refused("value_out_of_range"):
        GridLevels(count=4, shift=1.0).within(0.3, 0.4)
    for wrong in (
        lambda: LogitNormalLevels(std=0.0),
        lambda: LogitNormalLevels(shift=0.0),
        lambda: ModeLevels(scale=1.8),
        lambda: ModeLevels(scale=-1.1),
        lambda: GridLevels(count=0),
        lambda: GridLevels(shift=math.inf),
        lambda: level_shares(torch.empty(0)),
    ):
        with refused("value_out_of_range"):
            wrong()


def test_a_range_is_told_in_timesteps() -> None:
    assert level_range("875-1000") == (0.875, 1.0)
    assert level_range(" 0 - 417.5 ") == (0.0, 0.4175)
    for text in ("", "875", "875-", "a-b", "-5-10", "nan-1000"):
        with refused("bad_value"):
            level_range(text)
    for text in ("900-100", "900-900", "0-1001"):
        with refused("value_out_of_range"):
            level_range(text)


def test_a_range_of_shares_is_refused_with_the_timesteps_that_are_meant() -> None:
    """Index fractions of a grid of shift 5: .358 is timestep 900, .417 is 875."""
    for text, meant in (("0-0.358", "900-1000"), ("0.417-1", "0-875"), ("0.875-1", "875-1000")):
        with refused("levels_range_is_share", meant):
            level_range(text)


def test_a_histogram_counts_every_level() -> None:
    assert level_shares(torch.tensor([0.05, 0.15, 0.95, 0.9999999]), 10) == (0.25, 0.25, 0, 0, 0, 0, 0, 0, 0, 0.5)
