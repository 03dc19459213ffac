"""What must not change during a film: the colour of a plain background, and how many objects there are."""

import numpy as np
from jaxtyping import UInt8

from kinoform.world.reader_ground import border_mask, find_ground
from kinoform.world.reader_objects import FOREGROUND, find_objects


def background_drift(frames: UInt8[np.ndarray, "f h w 3"]) -> float:
    """The largest distance between the border's colours in any two frames, 0 to 255.

    max over frames f, g and channels c of |m[f, c] - m[g, c]|, m the median over the frame's border. Of a
    rendered film it is 0 if the background is plain and no object covers half of the border; it says nothing
    of textures.
    """
    _, height, width, _ = frames.shape
    colours = np.median(frames[:, border_mask(height, width)], axis=1)
    return float(np.ptp(colours, axis=0).max())


def counts(frames: UInt8[np.ndarray, "f h w 3"]) -> tuple[int, ...]:
    """How many objects each frame shows, found as in whole films, against the background of the whole film."""
    planes = np.ascontiguousarray(np.moveaxis(frames, -1, 0), dtype=np.float32)
    ground = find_ground(planes)
    _, distance = ground.place(planes)
    foreground, shade = distance > FOREGROUND, ground.base.mean(axis=0)
    alone = (slice(place, place + 1) for place in range(len(frames)))
    return tuple(find_objects(planes[:, one], distance[one], foreground[one], shade)[0] for one in alone)
