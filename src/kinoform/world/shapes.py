"""Six shapes as signed distances: negative inside, in units of the radius, y pointing down."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

Distance: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A figure of radius 1 about its centroid.

    `fold` is the number of turns that leave it unchanged (0 when round), `area` its area, `reach` the
    distance of its farthest point; `distance(x, y)` is the signed distance to its outline.
    """

    name: str
    fold: int
    area: float
    reach: float
    distance: Distance = field(compare=False, repr=False)


BALL_RADIUS = 0.95
SQUARE_HALF = 0.82
TRIANGLE_INRADIUS = 0.62
STAR_OUTER, STAR_INNER = 1.2, 0.6
RING_MIDDLE, RING_HALF = 0.78, 0.27
CROSS_LENGTH, CROSS_HALF = 1.0, 0.34


def _ball(x: Float[np.ndarray, "*p"], y: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    return np.sqrt(x * x + y * y) - BALL_RADIUS


def _square(x: Float[np.ndarray, "*p"], y: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    return np.maximum(np.abs(x), np.abs(y)) - SQUARE_HALF


def _triangle(x: Float[np.ndarray, "*p"], y: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    """Return the largest distance to the three sides; the corner points up."""
    slanted = math.sin(math.pi / 3) * np.abs(x) - 0.5 * y
    return np.maximum(slanted, y) - TRIANGLE_INRADIUS


def _star(x: Float[np.ndarray, "*p"], y: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    """Mirror twice into the wedge from a tip (0 degrees) to a valley (36 degrees), which leaves one edge."""
    cosine, sine = math.cos(math.pi / 5), math.sin(math.pi / 5)
    x, y = np.abs(x), -y
    for _ in range(2):
        beyond = 2 * np.maximum(cosine * x - sine * y, 0)
        x, y = np.abs(x - beyond * cosine), y + beyond * sine
    run, drop = STAR_INNER * sine, STAR_OUTER - STAR_INNER * cosine
    return (drop * x + run * (y - STAR_OUTER)) / math.hypot(run, drop)


def _ring(x: Float[np.ndarray, "*p"], y: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    return np.abs(np.sqrt(x * x + y * y) - RING_MIDDLE) - RING_HALF


def _cross(x: Float[np.ndarray, "*p"], y: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.minimum(x, y) - CROSS_HALF, np.maximum(x, y) - CROSS_LENGTH)


BALL = Shape(name="ball", fold=0, area=math.pi * BALL_RADIUS**2, reach=BALL_RADIUS, distance=_ball)
SQUARE = Shape(name="square", fold=4, area=4 * SQUARE_HALF**2, reach=SQUARE_HALF * math.sqrt(2), distance=_square)
TRIANGLE = Shape(
    name="triangle",
    fold=3,
    area=3 * math.sqrt(3) * TRIANGLE_INRADIUS**2,
    reach=2 * TRIANGLE_INRADIUS,
    distance=_triangle,
)
STAR = Shape(
    name="star",
    fold=5,
    area=5 * STAR_OUTER * STAR_INNER * math.sin(math.pi / 5),
    reach=STAR_OUTER,
    distance=_star,
)
RING = Shape(
    name="ring",
    fold=0,
    area=4 * math.pi * RING_MIDDLE * RING_HALF,
    reach=RING_MIDDLE + RING_HALF,
    distance=_ring,
)
CROSS = Shape(
    name="cross",
    fold=4,
    area=8 * CROSS_LENGTH * CROSS_HALF - 4 * CROSS_HALF**2,
    reach=math.hypot(CROSS_LENGTH, CROSS_HALF),
    distance=_cross,
)

SHAPES = (BALL, SQUARE, TRIANGLE, STAR, RING, CROSS)
"""The order defines the held-out pairs."""
