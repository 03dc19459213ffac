"""Weightings against their formulas, and the names of these and of noise levels."""

import math

import pytest
import torch

from kinoform.training.levels import GridLevels, LevelSampling, LogitNormalLevels, ModeLevels
from kinoform.training.names import (
    levels_name,
    noise_levels_of,
    weighting_name,
    weighting_of,
)
from kinoform.training.weighting import Bell, CosMap, MinSNR, SigmaSqrt, Weighting
from tests.support.refusals import refused

EVEN = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000


@pytest.mark.parametrize("weighting", [MinSNR(), MinSNR(gamma=1.0), CosMap()])
def test_the_mean_over_even_levels_is_one(weighting: Weighting) -> None:
    weight = weighting.weight(EVEN)
    assert weight.dtype == torch.float32 and weight.min() >= 0
    assert float(weight.double().mean()) == pytest.approx(1, abs=1e-5)


def test_min_snr_weighs_the_error_of_the_data() -> None:
    sigma = torch.tensor([0.1, 0.3, 0.31, 0.7], dtype=torch.float64)
    data = torch.minimum(((1 - sigma) / sigma).square(), torch.tensor(5.0, dtype=torch.float64))
    found = MinSNR().weight(sigma).double()
    torch.testing.assert_close(found / found[0], data * sigma**2 / (data[0] * sigma[0] ** 2), rtol=1e-6, atol=0)


def test_the_bell_has_the_numbers_of_its_source() -> None:
    """2.08 at 0.5, 0 at 1; of the draws of a grid of shift 5, 36 % at timesteps from 900 on have 10 % of the weight."""
    assert Bell().weight(torch.tensor([0.5, 0.9, 1.0])).tolist() == pytest.approx([2.08, 0.635, 0], abs=0.01)
    sigma = GridLevels(stratified=False).draw((200_000,), torch.Generator().manual_seed(0), 0)
    weight = Bell().weight(sigma)
    assert float(weight.mean()) == pytest.approx(1, abs=0.01)
    assert float(weight[sigma >= 0.9].sum() / weight.sum()) == pytest.approx(0.10, abs=0.01)


def test_sigma_sqrt_is_bounded() -> None:
    assert SigmaSqrt().weight(torch.tensor([0.5, 1e-6])).tolist() == pytest.approx([4, 1e6])


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("uniform", LevelSampling(shift=1.0)),
        ("shifted", LevelSampling()),
        ("shifted(shift=3.0)", LevelSampling(shift=3.0)),
        ("logit-normal(mean=0.5, std=2.0)", LogitNormalLevels(mean=0.5, std=2.0)),
        ("mode(scale=0.8)", ModeLevels(scale=0.8)),
        ("grid(shift=1.0, stratified=False)", GridLevels(shift=1.0, stratified=False)),
    ],
)
def test_levels_are_named_and_read_again(name: str, levels: LevelSampling) -> None:
    assert levels_name(levels) == name and noise_levels_of(name) == levels


def test_names_are_read_by_the_one_grammar() -> None:
    assert noise_levels_of("logit-normal:mean=0,std=1") == LogitNormalLevels()
    assert levels_name(LevelSampling(shift=3.0).within(0.875, 1.0)) == "shifted(shift=3.0) at 875-1000"
    assert weighting_of("none") is None and weighting_name(None) == "none"
    assert weighting_of("min-snr:gamma=3") == MinSNR(gamma=3.0)
    assert weighting_name(MinSNR(gamma=3.0)) == "min-snr(gamma=3.0)"


def test_unknown_names_options_and_shares_are_refused() -> None:
    for code, read in (
        ("unknown_name", lambda: noise_levels_of("logitnormal")),
        ("unknown_option", lambda: noise_levels_of("mode:std=1")),
        ("unknown_name", lambda: weighting_of("snr")),
        ("value_out_of_range", lambda: MinSNR(gamma=math.nan)),
    ):
        with refused(code):
            read()
