"""Read an object's motion from the tracks of its centroid, area and angle."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kinoform.world.motions import (
    BOUNCE,
    CIRCLE,
    DOWN,
    GROW,
    LEFT,
    RIGHT,
    SHRINK,
    SPIN,
    STILL,
    UP,
    Motion,
)

GROWN, SHRUNK = 1.7, 0.6
"""Ratio of the mean area in the last third of the video to that in the first."""

STILL_EXTENT = 0.1
CIRCLE_EXTENT = 0.2
SPUN = math.radians(60)
REVERSAL = 0.06
"""The way that an object must come back, in frame sides, for its turning to count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """Centroid in frame sides (y down), area in frame squares, angle in radians, of a shape of this fold."""

    x: Float[np.ndarray, " k"]
    y: Float[np.ndarray, " k"]
    area: Float[np.ndarray, " k"]
    angle: Float[np.ndarray, " k"]
    fold: int


def find_motion(track: Tracked) -> Motion:
    """Return the motion by the first rule that holds: area, rest or spin, circle, bounce, main direction."""
    third = max(1, len(track.area) // 3)
    ratio = float(track.area[-third:].mean() / track.area[:third].mean())
    if ratio > GROWN or ratio < SHRUNK:
        return GROW if ratio > GROWN else SHRINK
    wide, high = float(np.ptp(track.x)), float(np.ptp(track.y))
    if max(wide, high) < STILL_EXTENT:
        return SPIN if abs(_turned(track)) > SPUN else STILL
    if min(wide, high) > CIRCLE_EXTENT and _gap(track) < max(wide, high) / 2:
        return CIRCLE
    if _reversals(track.y) >= 2:
        return BOUNCE
    right, down = float(track.x[-1] - track.x[0]), float(track.y[-1] - track.y[0])
    if abs(right) > abs(down):
        return RIGHT if right > 0 else LEFT
    return DOWN if down > 0 else UP


def _turned(track: Tracked) -> float:
    """Return the sum of the steps in angle, each the shortest that the symmetry allows; 0 for round shapes."""
    if not track.fold:
        return 0.0
    period = 2 * math.pi / track.fold
    steps = np.diff(track.angle)
    return float(np.sum(steps - period * np.round(steps / period)))


def _gap(track: Tracked) -> float:
    return math.hypot(float(track.x[-1] - track.x[0]), float(track.y[-1] - track.y[0]))


def _reversals(position: Float[np.ndarray, " k"]) -> int:
    """Count changes of direction, ignoring movements back of less than REVERSAL."""
    count, direction, extreme = 0, 0, float(position[0])
    for value in position.tolist():
        moved = value - extreme
        if direction * moved > 0:
            extreme = value
        elif abs(moved) >= REVERSAL:
            count += direction != 0
            direction, extreme = (1 if moved > 0 else -1), value
    return count
