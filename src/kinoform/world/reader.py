"""Watch a video and say what it shows, from its frames alone; the judge of every video that a model makes."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from kinoform.world.backgrounds import Background, Camera
from kinoform.world.components import dilate
from kinoform.world.motions import GROW, LARGEST, SHRINK, SMALLEST, Motion
from kinoform.world.palette import Colour
from kinoform.world.reader_ground import find_ground, find_texture
from kinoform.world.reader_motion import Tracked, find_motion
from kinoform.world.reader_objects import FOREGROUND, FoundObjects, centroids, find_objects
from kinoform.world.reader_shape import find_shape
from kinoform.world.scene import PAIR_SHRINK, SIZES, Size
from kinoform.world.shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """An object as the video shows it.

    `area` is its median in frame squares; `path` its centroid (x, y down) in frame sides, in each frame
    where it was found. Its motion is that in the world: the camera's drift is taken off.
    """

    colour: Colour
    shape: Shape
    motion: Motion
    size: Size
    area: float
    path: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReading:
    """The contents of a video; `things` from left to right, as many as `count` but at most four."""

    background: Background
    camera: Camera
    count: int
    things: tuple[Observed, ...]


def read(frames: UInt8[np.ndarray, "f h w 3"]) -> VideoReading:
    """Read background, camera and objects of any video, whether it comes from this world or not.

    Background by majority of the border over palette and shades; foreground by distance from the segment
    between the two shades; objects as connected regions; colour by the median of the eroded region; shape by
    overlap with templates of equal area; motion from the tracks of centroid, area and angle.
    """
    planes = np.ascontiguousarray(np.moveaxis(frames, -1, 0), dtype=np.float32)
    ground = find_ground(planes)
    along, distance = ground.place(planes)
    foreground = distance > FOREGROUND
    texture, camera, drift = find_texture(along, ~dilate(dilate(foreground)))
    count, objects = find_objects(planes, distance, foreground, ground.base.mean(axis=0))
    shrink = PAIR_SHRINK if count > 1 else 1.0
    per_frame = drift / max(1, len(frames) - 1)
    return VideoReading(
        background=Background(colour=ground.colour, texture=texture),
        camera=camera,
        count=count,
        things=tuple(_observe(item, drift=per_frame, shrink=shrink) for item in objects),
    )


def _observe(item: FoundObjects, *, drift: float, shrink: float) -> Observed:
    """Describe an object; `drift` is the world's in frame sides per frame, `shrink` the factor on the radii."""
    side = min(item.cover.shape[1:])
    area = item.cover.sum(axis=(1, 2))
    centre = centroids(item.cover)
    shape, angle = find_shape(item.cover, centre, area)
    height, width = item.cover.shape[1:]
    x = (centre[:, 0] + 0.5 - width / 2) / side + 0.5
    y = (centre[:, 1] + 0.5 - height / 2) / side + 0.5
    squares = area / side**2
    track = Tracked(x=x - drift * item.frames, y=y, area=squares, angle=angle, fold=shape.fold)
    motion = find_motion(track)
    middle = float(np.median(squares))
    return Observed(
        colour=item.colour,
        shape=shape,
        motion=motion,
        size=_size(middle, shape, motion, shrink=shrink),
        area=middle,
        path=tuple(zip(x.tolist(), y.tolist(), strict=True)),
    )


def _size(area: float, shape: Shape, motion: Motion, *, shrink: float) -> Size:
    """Return the size whose radius is nearest in ratio; halfway through growing or shrinking the factor is 0.975."""
    factor = shrink * ((SMALLEST + LARGEST) / 2 if motion in (GROW, SHRINK) else 1.0)
    radius = math.sqrt(area / shape.area) / factor
    return min(SIZES, key=lambda size: abs(math.log(radius / size.radius)))
