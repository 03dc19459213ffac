"""Ten motions as functions of video time u, which runs from 0 at the first frame to 1 at the last."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

BOUNCE_HEIGHT = 0.36
CIRCLE_RADIUS = 0.2
SPIN_ANGLE = math.radians(160)
SMALLEST, LARGEST = 0.6, 1.35
AMPLITUDES = (0.34, 0.44)
"""The distance travelled by a straight motion or a pan, in frame sides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freedom:
    """The choices that the name of a motion leaves open.

    `amplitude` in frame sides (0.34 to 0.44), `phase` in turns (0 to 1), `sense` +1 clockwise on the screen
    or -1.
    """

    amplitude: float
    phase: float
    sense: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Place an object at each u: offset from its home in frame sides, angle in radians, radius factor."""

    dx: Float[np.ndarray, " f"]
    dy: Float[np.ndarray, " f"]
    angle: Float[np.ndarray, " f"]
    scale: Float[np.ndarray, " f"]


Path: TypeAlias = Callable[[np.ndarray, Freedom], Trajectory]


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """A named `track(u, freedom)`; along a centred axis the home is the middle of the frame."""

    name: str
    track: Path = field(compare=False, repr=False)
    centred_x: bool = False
    centred_y: bool = False


def _moved(
    u: Float[np.ndarray, " f"],
    *,
    dx: Float[np.ndarray, " f"] | float = 0.0,
    dy: Float[np.ndarray, " f"] | float = 0.0,
    angle: Float[np.ndarray, " f"] | float = 0.0,
    scale: Float[np.ndarray, " f"] | float = 1.0,
) -> Trajectory:
    rest = np.zeros_like(u)
    return Trajectory(dx=rest + dx, dy=rest + dy, angle=rest + angle, scale=rest + scale)


def _straight(u: Float[np.ndarray, " f"], freedom: Freedom, *, x: int = 0, y: int = 0) -> Trajectory:
    """Move by direction * amplitude * (u - 1/2)."""
    travelled = freedom.amplitude * (u - 0.5)
    return _moved(u, dx=x * travelled, dy=y * travelled)


def _bounce(u: Float[np.ndarray, " f"], freedom: Freedom) -> Trajectory:
    """Move by dy = height * (1/2 - |cos(2 pi u)|): high at both ends, on the floor at u = 1/4 and 3/4."""
    return _moved(u, dy=BOUNCE_HEIGHT * (0.5 - np.abs(np.cos(2 * math.pi * u))))


def _still(u: Float[np.ndarray, " f"], freedom: Freedom) -> Trajectory:
    return _moved(u)


def _spin(u: Float[np.ndarray, " f"], freedom: Freedom) -> Trajectory:
    return _moved(u, angle=freedom.sense * SPIN_ANGLE * u)


def _grow(u: Float[np.ndarray, " f"], freedom: Freedom) -> Trajectory:
    return _moved(u, scale=SMALLEST + (LARGEST - SMALLEST) * u)


def _shrink(u: Float[np.ndarray, " f"], freedom: Freedom) -> Trajectory:
    return _moved(u, scale=LARGEST - (LARGEST - SMALLEST) * u)


def _circle(u: Float[np.ndarray, " f"], freedom: Freedom) -> Trajectory:
    turn = 2 * math.pi * (freedom.phase + freedom.sense * u)
    return _moved(u, dx=CIRCLE_RADIUS * np.cos(turn), dy=CIRCLE_RADIUS * np.sin(turn))


LEFT = Motion(name="left", track=partial(_straight, x=-1), centred_x=True)
RIGHT = Motion(name="right", track=partial(_straight, x=1), centred_x=True)
UP = Motion(name="up", track=partial(_straight, y=-1), centred_y=True)
DOWN = Motion(name="down", track=partial(_straight, y=1), centred_y=True)
BOUNCE = Motion(name="bounce", track=_bounce)
STILL = Motion(name="still", track=_still)
SPIN = Motion(name="spin", track=_spin)
GROW = Motion(name="grow", track=_grow)
SHRINK = Motion(name="shrink", track=_shrink)
CIRCLE = Motion(name="circle", track=_circle)

MOTIONS = (LEFT, RIGHT, UP, DOWN, BOUNCE, STILL, SPIN, GROW, SHRINK, CIRCLE)
PAIR_MOTIONS = (UP, DOWN, BOUNCE, STILL, SPIN, GROW, SHRINK)
"""Motions of each of two objects: none that leaves its half of the frame."""
