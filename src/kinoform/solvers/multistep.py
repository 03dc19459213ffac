"""The mathematics that multistep solvers share: steps in half the log signal-to-noise ratio.

With alpha = 1 - sigma and lambda = ln alpha - ln sigma the exact solution from a to b is
x_b = w·x_a + (1 - w)·estimate, w = sigma_b / sigma_a, where the estimate is a mean of the data prediction
along the way. First order takes the prediction at a; higher orders extrapolate it through earlier ones.
No exponential of lambda is formed, so a pure-noise start (lambda -inf) and a clean end (+inf) need no care.
Lu et al. 2022, "DPM-Solver++"; Zhao et al. 2023, "UniPC".
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kinoform.types import Latents, Level

SERIES_TERMS = 20


def log_snr(sigma: float) -> float:
    """lambda = ln(1 - sigma) - ln(sigma): -inf at pure noise, +inf where clean."""
    if sigma in (0.0, 1.0):
        return math.inf if sigma == 0 else -math.inf
    return math.log1p(-sigma) - math.log(sigma)


def span(levels: tuple[Level, ...], a: int) -> float:
    """h = lambda_(a+1) - lambda_a > 0, infinite from pure noise and to clean."""
    return log_snr(levels[a + 1].sigma) - log_snr(levels[a].sigma)


def nodes(levels: tuple[Level, ...], a: int, count: int) -> tuple[float, ...]:
    """r_j = (lambda_(a-j) - lambda_a) / h for j = 1..count: earlier levels, seen from a, in steps of h.

    Negative; -inf where the earlier level is pure noise.
    """
    here = log_snr(levels[a].sigma)
    return tuple((log_snr(levels[a - j].sigma) - here) / span(levels, a) for j in range(1, count + 1))


def moments(h: float, count: int) -> tuple[float, ...]:
    """b_k = k!·g_k(-h) / expm1(-h), k = 1..count: the mean of r^k over the step, weighted as x weighs it.

    g_k(z) is the sum over j > k of z^(j-k) / j!, by that series for |z| < 1, where the recursion
    g_(k+1) = g_k/z - 1/(k+1)! would lose digits like z^-k, and by the recursion elsewhere. All b_k tend
    to 1 for h -> inf and to 1/(k+1) for h -> 0.
    """
    z, e = -h, math.expm1(-h)
    if h < 1:
        g = [
            sum(z ** (j - k) / math.factorial(j) for j in range(k + 1, k + 1 + SERIES_TERMS))
            for k in range(1, count + 1)
        ]
    else:
        g = [e / z - 1]
        for k in range(2, count + 1):
            g.append(g[-1] / z - 1 / math.factorial(k))
    return tuple(math.factorial(k) * value / e for k, value in enumerate(g[:count], 1))


def weights(places: Sequence[float], h: float) -> tuple[float, ...]:
    """rho with sum_j rho_j·r_j^(k-1) = b_k, k = 1, 2, ...: exact for polynomials through the places r_j.

    A single place weighs 1/2, as UniPC has it, instead of b_1. An infinite place weighs 0 and leaves the
    system. Solved in float64 on the host: a device is not waited for.
    """
    if len(places) < 2:
        return (0.5,) * len(places)
    finite = [place for place in places if math.isfinite(place)]
    vandermonde: NDArray[np.float64] = np.vander(finite, increasing=True)
    solution: NDArray[np.floating] = np.linalg.solve(np.transpose(vandermonde), np.array(moments(h, len(finite))))
    solved = iter(float(value) for value in solution)
    return tuple(next(solved) if math.isfinite(place) else 0.0 for place in places)


def slope(here: Latents, there: Latents, place: float) -> Latents:
    """D = (m_there - m_here) / r: how fast the prediction changes per step, 0 seen from an infinite place."""
    return (there - here) / place


def blend(x: Latents, estimate: Latents, level: Level, target: Level) -> Latents:
    """x_b = w·x + (1 - w)·estimate; at the clean end the estimate itself, bit for bit."""
    if target.sigma == 0:
        return estimate
    ratio = target.sigma / level.sigma
    return ratio * x + (1 - ratio) * estimate
