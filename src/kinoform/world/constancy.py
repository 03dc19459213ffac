"""Constancy of a video: of a plain background's colour, of the number of objects, and of their positions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8

from kinoform.world.reader_ground import border_mask, find_ground
from kinoform.world.reader_objects import FOREGROUND, centroids, find_objects

FASTEST = 4.0
"""Frame sides that an object may move during a video at its greatest speed; of this world bouncing is the fastest, with
2.24 (0.14 between two of 17 frames)."""

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Objects in one frame: how many, and the centroids (x, y down) of up to four in frame sides."""

    count: int
    places: tuple[Point, ...]


def background_drift(frames: UInt8[np.ndarray, "f h w 3"]) -> float:
    """Return the largest distance between the border's colours in any two frames, 0 to 255.

    max over frames f, g and channels c of |m[f, c] - m[g, c]|, m the median over the frame's border. Of a
    rendered video it is 0 if the background is plain and no object covers half of the border; it says nothing
    of textures.
    """
    _, height, width, _ = frames.shape
    colours = np.median(frames[:, border_mask(height, width)], axis=1)
    return float(np.ptp(colours, axis=0).max())


def sightings(frames: UInt8[np.ndarray, "f h w 3"]) -> tuple[Sighting, ...]:
    """Find the objects of each frame as in whole videos, against the background of the whole video."""
    planes = np.ascontiguousarray(np.moveaxis(frames, -1, 0), dtype=np.float32)
    ground = find_ground(planes)
    _, distance = ground.place(planes)
    foreground, shade = distance > FOREGROUND, ground.base.mean(axis=0)
    side, seen = min(frames.shape[1:3]), []
    for index in range(len(frames)):
        one = slice(index, index + 1)
        count, objects = find_objects(planes[:, one], distance[one], foreground[one], shade)
        middles = (centroids(item.cover)[0] / side for item in objects)
        seen.append(Sighting(count=count, places=tuple((float(x), float(y)) for x, y in middles)))
    return tuple(seen)


def counts(frames: UInt8[np.ndarray, "f h w 3"]) -> tuple[int, ...]:
    """Return the number of objects that each frame shows."""
    return tuple(item.count for item in sightings(frames))


def steady(seen: Sequence[Sighting], count: int) -> bool:
    """Tell whether every frame shows `count` objects, none of which leaps: each is near to one of the frame before."""
    if any(item.count != count for item in seen):
        return False
    furthest = FASTEST / max(1, len(seen) - 1)
    return all(_leap(before.places, after.places) <= furthest for before, after in pairwise(seen))


def _leap(before: Sequence[Point], after: Sequence[Point]) -> float:
    """Return the longest way between two frames, for the matching of objects that makes it shortest."""
    ways = (max(map(math.dist, before, order), default=0.0) for order in permutations(after))
    return min(ways, default=0.0)
