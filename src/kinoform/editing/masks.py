"""Masks of an edit, which say where a video may change and how far: grown, and feathered on their outside."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Bool, Float32, Int32

from kinoform.conditions.clip_checks import WHITE, check_same
from kinoform.media.types import InputVideo, Mask

DARK, BRIGHT = 32, 223
"""Greys between these are neither black nor white, as encoders of videos leave them."""

MANY = 0.02
"""The share of grey pixels that is told of; the smooth edge of a brush is less."""

NONE = 2**20
"""More pixels than any line has."""

Alpha = Float32[np.ndarray, "f height width"]
"""0 where a video stays, 1 where it changes wholly."""


def alpha_of(mask: Mask | None, video: InputVideo, *, grow: int, feather: float) -> Alpha:
    """1 up to `grow` pixels from white, then falling, 0 beyond grow + feather; without a mask 1 everywhere.

    alpha = 1 - (d - grow) / (feather + 1), d the distance to the nearest white pixel's centre. A mask of one frame
    stands for all: then the frames share their memory and cannot be written to.
    Raises UsageError for a mask of another size or length, naming both. Warns of greys and of a mask that leaves
    nothing as it is.
    """
    shape = len(video.frames), *video.size
    if mask is None:
        return np.broadcast_to(np.float32(1), shape)
    check_same(mask, video)
    _tell_greys(mask)
    alpha = np.stack([soft(frame >= WHITE, grow=grow, feather=feather) for frame in mask.values])
    if alpha.min() > 0:
        rim = f", grown by {grow} and feathered by {feather:g} pixels," if (mask.values < WHITE).any() else ""
        warnings.warn(f"{mask.name}{rim} is white everywhere, so nothing of the video is sure to stay", stacklevel=3)
    return np.broadcast_to(alpha, shape)


def soft(white: Bool[np.ndarray, "height width"], *, grow: int, feather: float) -> Float32[np.ndarray, "height width"]:
    """One frame of `alpha_of`."""
    far = distance(white, most=int(grow + feather) + 1)
    alpha = np.clip(1 - (far - grow) / np.float32(feather + 1), 0, 1)
    return np.where(far > grow + feather, 0, alpha).astype(np.float32)


def distance(white: Bool[np.ndarray, "height width"], *, most: int) -> Float32[np.ndarray, "height width"]:
    """Pixels to the centre of the nearest white one (0 on white), exact up to `most` and at least that beyond.

    min over rows y' of (y - y')^2 + r(y', x)^2, r the distance along the row alone (Saito & Toriwaki 1994).
    """
    height, beyond = len(white), np.int32((most + 1) ** 2)
    along = np.minimum(_along(white, 1), most + 1) ** 2
    nearest = along.copy()
    for shift in range(1, min(most, height - 1) + 1):
        square = np.int32(shift**2)
        np.minimum(nearest[shift:], along[:-shift] + square, out=nearest[shift:])
        np.minimum(nearest[:-shift], along[shift:] + square, out=nearest[:-shift])
    return np.sqrt(np.minimum(nearest, beyond).astype(np.float32))


def ring(alpha: Alpha, width: int) -> Bool[np.ndarray, "f height width"]:
    """Pixels that stay, at most `width` pixels from one that changes, along rows and columns (a square element)."""
    changes = alpha > 0
    near = _along(_along(changes, 2) <= width, 1) <= width
    return near & ~changes


def _along(white: Bool[np.ndarray, "*shape"], axis: int) -> Int32[np.ndarray, "*shape"]:
    """Pixels to the nearest white one in the same line; `NONE` or more where there is none."""
    places = np.arange(white.shape[axis], dtype=np.int32)
    places = places.reshape([-1 if each == axis else 1 for each in range(white.ndim)])
    before = np.maximum.accumulate(np.where(white, places, -NONE), axis=axis)
    after = np.flip(np.minimum.accumulate(np.flip(np.where(white, places, 2 * NONE), axis), axis=axis), axis)
    return np.minimum(places - before, after - places).astype(np.int32)


def _tell_greys(mask: Mask) -> None:
    grey = float(((mask.values > DARK) & (mask.values < BRIGHT)).mean())
    if grey > MANY:
        warnings.warn(
            f"{mask.name} is grey in {grey:.0%} of its pixels; {WHITE} and above count as white, the rest as black",
            stacklevel=4,
        )
