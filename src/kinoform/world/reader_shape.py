"""Read an object's shape and angles: overlap with each shape of equal area, over all rotations at once.

Seen in polar coordinates about the centroid a rotation is a shift, so the overlaps for all rotations are one
circular correlation, computed by the Fourier transform.
"""

import math
from functools import cache

import numpy as np
from jaxtyping import Complex, Float

from kinoform.world.shapes import SHAPES, Shape

RINGS, RAYS = 18, 72
FARTHEST = 1.7
"""The outermost ring, in radii of the disc of equal area; a triangle's corner reaches 1.56."""

SOFTNESS = 0.1
"""Half the width of the templates' edges in the same unit: about a pixel of a small object."""


def find_shape(
    cover: Float[np.ndarray, "k h w"],
    centre: Float[np.ndarray, "k 2"],
    area: Float[np.ndarray, " k"],
) -> tuple[Shape, Float[np.ndarray, " k"]]:
    """Return the shape with the largest intersection over union, averaged over frames, and its angle in each.

    `centre` is (x, y) and `area` in pixels; angles are radians, clockwise on the screen, within one fold.
    """
    polar, inside = _polar(cover, centre, np.sqrt(area / math.pi))
    overlaps = _overlaps(polar, inside)
    best = overlaps.max(axis=2).mean(axis=0)
    winner = int(best.argmax())
    return SHAPES[winner], _peaks(overlaps[:, winner])


def _rings() -> Float[np.ndarray, " r"]:
    return (np.arange(RINGS) + 0.5) * (FARTHEST / RINGS)


def _rays() -> Float[np.ndarray, " t"]:
    return np.arange(RAYS) * (2 * math.pi / RAYS)


@cache
def _templates() -> Complex[np.ndarray, "s r k"]:
    """Return each shape at angle 0, as large as a disc of radius 1: conjugate spectra of its rings, by their length."""
    radius, angle = np.meshgrid(_rings(), _rays(), indexing="ij")
    templates = []
    for shape in SHAPES:
        unit = math.sqrt(math.pi / shape.area)
        distance = unit * shape.distance(radius * np.cos(angle) / unit, radius * np.sin(angle) / unit)
        templates.append(np.clip(0.5 - distance / (2 * SOFTNESS), 0, 1))
    weighted = np.stack(templates).astype(np.float32) * _rings()[:, None]
    return np.fft.rfft(weighted, axis=-1).conj()


def _polar(
    cover: Float[np.ndarray, "k h w"], centre: Float[np.ndarray, "k 2"], radius: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, "k r t"], Float[np.ndarray, "k r t"]]:
    """Coverage on the rings and rays, bilinear, and 1 where those lie inside the frame."""
    frames, height, width = cover.shape
    spokes = _rings()[:, None] * np.stack([np.cos(_rays()), np.sin(_rays())])[:, None, :]
    x, y = (centre[:, axis, None, None] + radius[:, None, None] * spokes[axis] for axis in (0, 1))
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.minimum(x.astype(int), max(width - 2, 0)), np.minimum(y.astype(int), max(height - 2, 0))
    corner = (np.arange(frames)[:, None, None] * height + top) * width + left
    right, below = min(1, width - 1), width * min(1, height - 1)
    pixels = cover.ravel()
    nearer, farther = left + 1 - x, x - left
    upper = pixels.take(corner) * nearer + pixels.take(corner + right) * farther
    lower = pixels.take(corner + below) * nearer + pixels.take(corner + below + right) * farther
    weights = inside.astype(np.float32)
    return (upper * (top + 1 - y) + lower * (y - top)).astype(np.float32) * weights, weights


def _overlaps(polar: Float[np.ndarray, "k r t"], inside: Float[np.ndarray, "k r t"]) -> Float[np.ndarray, "k s t"]:
    """Intersection over union with each template at each rotation; the frame's outside counts for neither."""
    shared = np.einsum("krt,srt->kst", np.fft.rfft(polar, axis=-1), _templates(), optimize=True)
    in_frame = np.einsum("krt,srt->kst", np.fft.rfft(inside, axis=-1), _templates(), optimize=True)
    both = np.fft.irfft(shared, n=RAYS, axis=-1)
    own = np.einsum("krt,r->k", polar, _rings())[:, None, None]
    either = own + np.fft.irfft(in_frame, n=RAYS, axis=-1) - both
    return both / np.maximum(either, 1e-6)


def _peaks(overlaps: Float[np.ndarray, "k t"]) -> Float[np.ndarray, " k"]:
    """Return the rotation of largest overlap, by the parabola through its neighbours."""
    peak = overlaps.argmax(axis=1)
    frames = np.arange(len(peak))
    before, at, after = (overlaps[frames, (peak + step) % RAYS] for step in (-1, 0, 1))
    curve = np.minimum(before - 2 * at + after, -1e-9)
    return (peak + np.clip(0.5 * (before - after) / curve, -0.5, 0.5)) * (2 * math.pi / RAYS)
