"""Paint a scene as sRGB frames: signed distances, one-pixel anti-aliasing, any size.

The world is a square of side min(height, width) in the middle of the frame; the background goes on beyond it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from kinoform.errors import UsageError
from kinoform.world.palette import shade
from kinoform.world.scene import Scene, Thing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lattice:
    """Video times, world places of the pixel centres in frame sides, and the pixels per frame side."""

    u: Float32[np.ndarray, " f"]
    x: Float32[np.ndarray, " w"]
    y: Float32[np.ndarray, " h"]
    side: int


def render(scene: Scene, *, num_frames: int = 17, height: int = 64, width: int = 64) -> UInt8[np.ndarray, "f h w 3"]:
    """Draw the video of a scene, RGB in 0..255. Raises UsageError for a size below one frame of one pixel."""
    lattice = _lattice(num_frames, height, width)
    planes = _background(scene, lattice)
    for thing in scene.things:
        cover = _cover(thing, scene.drift, lattice)
        planes = [plane + cover * (value - plane) for plane, value in zip(planes, thing.rgb, strict=True)]
    video = np.empty((num_frames, height, width, 3), dtype=np.uint8)
    for channel, plane in enumerate(planes):
        video[..., channel] = plane + np.float32(0.5)
    return video


def coverage(
    scene: Scene, *, num_frames: int = 17, height: int = 64, width: int = 64
) -> Float32[np.ndarray, "n f h w"]:
    """Compute the share of each pixel that each thing covers, 0 to 1, as if no other thing hid it: the exact masks."""
    lattice = _lattice(num_frames, height, width)
    return np.stack([_cover(thing, scene.drift, lattice) for thing in scene.things])


def _lattice(num_frames: int, height: int, width: int) -> _Lattice:
    if min(num_frames, height, width) < 1:
        raise UsageError(
            f"a video of {num_frames} frames of {height}x{width} is empty; use at least 1 of each",
            code="value_out_of_range",
        )
    side = min(height, width)
    return _Lattice(
        u=np.linspace(0, 1, num_frames, dtype=np.float32),
        x=((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / side + 0.5).astype(np.float32),
        y=((np.arange(height, dtype=np.float32) + 0.5 - height / 2) / side + 0.5).astype(np.float32),
        side=side,
    )


def _background(scene: Scene, lattice: _Lattice) -> list[Float32[np.ndarray, "#f #h #w"]]:
    ground = scene.story.background
    x = lattice.x[None, None, :] - _shift(scene.drift, lattice)[:, None, None]
    share = ground.texture.pattern(x, lattice.y[None, :, None])
    return [a + share * np.float32(b - a) for a, b in zip(ground.colour.rgb, shade(ground.colour), strict=True)]


def _cover(thing: Thing, drift: float, lattice: _Lattice) -> Float32[np.ndarray, "f h w"]:
    """Half a pixel inside the outline is covered, half a pixel outside is not, linear between."""
    track = thing.subject.motion.track(lattice.u, thing.freedom)
    radius = (thing.radius * track.scale).astype(np.float32)[:, None, None]
    centre_x = (thing.x + track.dx + _shift(drift, lattice)).astype(np.float32)[:, None, None]
    centre_y = (thing.y + track.dy).astype(np.float32)[:, None, None]
    x = (lattice.x - centre_x) / radius
    y = (lattice.y[:, None] - centre_y) / radius
    cosine = np.cos(track.angle).astype(np.float32)[:, None, None]
    sine = np.sin(track.angle).astype(np.float32)[:, None, None]
    distance = thing.subject.shape.distance(cosine * x + sine * y, cosine * y - sine * x)
    return np.clip(np.float32(0.5) - distance * (radius * lattice.side), 0, 1)


def _shift(drift: float, lattice: _Lattice) -> Float32[np.ndarray, " f"]:
    return np.float32(drift) * (lattice.u - np.float32(0.5))
