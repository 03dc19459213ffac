"""The coefficients: recorded check values, limits, and what each is defined by."""

import math

import numpy as np
import pytest
import torch

from kinoform.solvers.levels import unipc_levels
from kinoform.solvers.multistep import blend, log_snr, moments, nodes, slope, span, weights
from kinoform.types import CLEAN, Level

LEVELS = unipc_levels(6, 3.0)


def test_recorded_coefficients() -> None:
    """Order 3, 6 steps, shift 3: step 3's corrector and predictor."""
    lambdas = [log_snr(level.sigma) for level in LEVELS]
    recorded = [-8.005391, -2.702062, -1.788761, -1.096612, -0.403965, 0.512026, math.inf]
    assert np.allclose(lambdas, recorded, atol=2e-4)
    h = span(LEVELS, 2)
    assert h == pytest.approx(0.692149, abs=1e-6)
    assert moments(h, 3) == pytest.approx((0.557224, 0.391873, 0.303494), abs=2e-6)
    places = nodes(LEVELS, 2, 2)
    assert places == pytest.approx((-1.319516, -8.981641), abs=2e-4)
    assert weights((*places, 1.0), h) == pytest.approx((0.088536, -0.004008, 0.472696), abs=2e-6)
    h, places = span(LEVELS, 3), nodes(LEVELS, 3, 2)
    assert (h, *moments(h, 2)) == pytest.approx((0.692648, 0.557264, 0.391915), abs=2e-6)
    assert places == pytest.approx((-0.999280, -2.317845), abs=2e-6)
    assert weights(places, h) == pytest.approx((1.276818, -0.719553), abs=5e-6)


@pytest.mark.parametrize("h", [1e-8, 1e-3, 0.1, 0.9999, 1.0001, 3.0, 30.0])
def test_moments_are_weighted_means(h: float) -> None:
    """b_k is the mean of r^k over 0..1 with weight exp(h·r), here by Simpson's rule."""
    r = np.linspace(0, 1, 20001)
    simpson = np.ones_like(r)
    simpson[1:-1:2], simpson[2:-1:2] = 4, 2
    density = simpson * np.exp(h * (r - 1))
    expected = [float((density * r**k).sum() / density.sum()) for k in (1, 2, 3, 4)]
    assert moments(h, 4) == pytest.approx(expected, rel=1e-9)


def test_moments_at_infinity() -> None:
    assert moments(math.inf, 4) == (1, 1, 1, 1)
    assert moments(1e-300, 3) == pytest.approx((1 / 2, 1 / 3, 1 / 4))


def test_weights_are_exact_for_polynomials() -> None:
    """They reproduce the mean of every power that has as many places."""
    for places in [(-1.0, -2.5), (-0.7, 1.0), (-1.0, -2.2, 1.0), (-1.0, -2.0, -3.5, 1.0)]:
        rho, b = weights(places, 0.6), moments(0.6, 4)
        for k in range(len(places)):
            assert sum(w * r**k for w, r in zip(rho, places, strict=True)) == pytest.approx(b[k], rel=1e-10)


def test_an_infinite_place_leaves_the_system() -> None:
    assert weights((), 1.0) == ()
    assert weights((-3.0,), 1.0) == (0.5,)
    assert weights((-math.inf, 1.0), 0.4) == pytest.approx((0, moments(0.4, 1)[0]))
    finite = weights((-1.0, 1.0), 0.4)
    assert weights((-1.0, -math.inf, 1.0), 0.4) == pytest.approx((finite[0], 0, finite[1]))
    here, there = torch.ones(2, 1, 1, 1, 1, 3)
    assert not slope(here, 2 * there, -math.inf).any() and slope(here, 2 * there, -2.0).allclose(-there / 2)


def test_blend_is_the_exponential_form() -> None:
    x, estimate = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, estimate = x.reshape(1, 1, 1, 5, 10), estimate.reshape(1, 1, 1, 5, 10)
    for a, b in [(0.9, 0.7), (0.999, 0.3), (0.2, 0.01)]:
        level, target = Level(sigma=a, timestep=0.0), Level(sigma=b, timestep=0.0)
        e = math.exp(log_snr(a) - log_snr(b)) - 1
        assert torch.allclose(blend(x, estimate, level, target), b / a * x - (1 - b) * e * estimate)
    assert torch.equal(blend(x * math.nan, estimate, Level(sigma=0.1, timestep=100.0), CLEAN), estimate)


def test_log_snr() -> None:
    assert (log_snr(0.0), log_snr(0.5), log_snr(1.0)) == (math.inf, 0, -math.inf)
    assert log_snr(0.3) == pytest.approx(-log_snr(0.7))
