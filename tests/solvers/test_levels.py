"""Level lists: the official numbers, and the rule that makes them."""

import math

import numpy as np
import pytest

from kinoform.solvers.dpmpp import DPMSolver
from kinoform.solvers.euler import Euler
from kinoform.solvers.levels import dpmpp_levels, level_at, shifted, unipc_levels
from kinoform.solvers.unipc import UniPC
from kinoform.types import CLEAN, Level
from tests.support.refusals import refused

SHIFTS = (1.0, 3.0, 5.0, 8.0, 12.0, 16.0)
UNIPC_50 = """999 995 991 987 982 978 973 968 963 957 952 946 940 934 927 920 913 906 898 890 882 873 863 854
843 833 821 809 796 783 768 753 737 720 701 681 660 636 611 584 555 522 487 448 405 356 302 241 172 92"""
UNIPC = {
    (50, 5.0): UNIPC_50,
    (4, 5.0): "999 937 833 624",
    (10, 3.0): "999 963 922 874 817 749 666 562 428 249",
    (5, 16.0): "999 984 959 914 799",
}
DPMPP = {
    (4, 5.0): "1000 937 833 625",
    (10, 3.0): "1000 964 923 874 818 750 666 562 428 249",
    (5, 16.0): "1000 984 960 914 800",
    (10, 1.0): "1000 900 800 700 600 500 399 299 199 99",
    (5, 1.0): "1000 800 600 399 199",
}


def timesteps(levels: tuple[Level, ...]) -> list[int]:
    return [int(level.timestep) for level in levels[:-1]]


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def test_timesteps_are_the_official_ones() -> None:
    for (steps, shift), listed in UNIPC.items():
        assert timesteps(unipc_levels(steps, shift)) == numbers(listed)
    for (steps, shift), listed in DPMPP.items():
        assert timesteps(dpmpp_levels(steps, shift)) == numbers(listed)
    assert timesteps(dpmpp_levels(50, 5.0))[:6] == [1000, 995, 991, 987, 982, 978]
    assert timesteps(unipc_levels(40, 12.0))[:4] == [999, 997, 995, 993]
    long = timesteps(unipc_levels(50, 16.0))
    assert (long[:4], long[-2:]) == ([999, 998, 997, 995], [399, 245])
    assert timesteps(dpmpp_levels(20, 16.0))[13] == 895


def test_sigmas_are_the_official_ones() -> None:
    sigmas = [level.sigma for level in unipc_levels(50, 5.0)]
    assert np.allclose(sigmas[:3], [0.999800, 0.995732, 0.991530], atol=6e-7)
    assert np.allclose(sigmas[-3:], [0.172265, 0.092507, 0], atol=6e-7)
    assert unipc_levels(7, 1.0)[0].sigma == 0.9990000128746033


@pytest.mark.parametrize("grid", [unipc_levels, dpmpp_levels])
def test_a_list_falls_from_noise_to_clean(grid) -> None:
    for shift in (0.3, *SHIFTS):
        for steps in (1, 2, 3, 17, 100):
            levels = grid(steps, shift)
            assert len(levels) == steps + 1 and levels[-1] == CLEAN
            assert all(a.sigma > b.sigma and a.timestep >= b.timestep for a, b in zip(levels, levels[1:]))  # noqa: B905, RUF007
            assert all(level.sigma == float(np.float32(level.sigma)) for level in levels)
            assert all(level.timestep == int(level.timestep) for level in levels)


def test_truncation_is_of_the_float64_product() -> None:
    """Where the exact product is whole the float64 one may lie an ulp below: 344 places, one too low each."""
    lower = 0
    for shift in SHIFTS:
        for steps in range(1, 101):
            ours = timesteps(dpmpp_levels(steps, shift))
            for i, timestep in enumerate(ours):
                left, s = steps - i, int(shift)
                exact = 1000 * s * left // (steps + (s - 1) * left)
                assert exact - timestep in (0, 1)
                lower += exact - timestep
    assert lower == 344


def test_timestep_is_not_of_the_float32_sigma() -> None:
    level = dpmpp_levels(10, 3.0)[3]
    assert (level.sigma, level.timestep) == (0.875, 874)


def test_shifts_compose() -> None:
    for u in (0.0, 0.1, 0.5, 0.999, 1.0):
        assert math.isclose(shifted(shifted(u, 3.0), 5.0), shifted(u, 15.0), abs_tol=1e-15)
        assert shifted(u, 1.0) == u


@pytest.mark.parametrize("grid", [unipc_levels, dpmpp_levels])
def test_experts_take_the_official_number_of_steps(grid) -> None:
    for steps, shift, boundary, high in [(40, 12.0, 0.875, 26), (40, 5.0, 0.9, 15)]:
        chosen = [timestep >= 1000 * boundary for timestep in timesteps(grid(steps, shift))]
        assert (sum(chosen), steps - sum(chosen)) == (high, 40 - high)
        assert chosen == sorted(chosen, reverse=True)


def test_each_solver_has_its_grid() -> None:
    assert UniPC().levels(7, 5.0) == unipc_levels(7, 5.0)
    assert DPMSolver().levels(7, 5.0) == Euler().levels(7, 5.0) == dpmpp_levels(7, 5.0)


def test_exact_timesteps_are_not_truncated() -> None:
    whole, exact = Euler().levels(50, 5.0), Euler(exact_timesteps=True).levels(50, 5.0)
    assert [level.sigma for level in whole] == [level.sigma for level in exact]
    assert np.allclose([level.timestep for level in exact[:4]], [1000, 995.935, 991.735, 987.395], atol=1e-3)
    assert [math.trunc(level.timestep) for level in exact] == [level.timestep for level in whole]


def test_level_off_the_grid() -> None:
    assert level_at(0.0) == CLEAN
    assert level_at(0.9999) == Level(sigma=float(np.float32(0.9999)), timestep=999.0)
    for level, u in zip(dpmpp_levels(10, 1.0), np.linspace(1, 0, 11).tolist(), strict=True):
        assert level_at(u) == level


@pytest.mark.parametrize("steps,shift", [(0, 5.0), (-3, 5.0), (4, 0.0), (4, -1.0), (4, math.nan), (4, math.inf)])
def test_impossible_lists_are_refused_by_value(steps: int, shift: float) -> None:
    for solver in (Euler(), DPMSolver(), UniPC()):
        with refused("value_out_of_range", str(steps if steps < 1 else shift)):
            solver.levels(steps, shift)


@pytest.mark.parametrize("sigma", [-0.1, 1.01, math.nan])
def test_impossible_levels_are_refused(sigma: float) -> None:
    with refused("value_out_of_range", str(sigma)):
        level_at(sigma)
