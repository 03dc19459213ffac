"""Fidelity of an autoencoder to a rendered video: errors in decibels, of all pixels and of objects."""

import math

import numpy as np
from jaxtyping import Float, UInt8

from kinoform.errors import UsageError

WHITE_LEVEL = 255
COVERED = 0.5
"""The foreground is where an object covers more of a pixel than this."""


def psnr(video: UInt8[np.ndarray, "f h w 3"], rendered: UInt8[np.ndarray, "_ _ _ 3"]) -> float:
    """Peak signal-to-noise ratio, 10 log10(255^2 / e) in dB; infinite for equal videos.

    e is the mean squared error over all pixels and channels. Raises UsageError when the videos differ in size.
    """
    return _decibels(_squared_error(video, rendered).mean())


def foreground_psnr(
    video: UInt8[np.ndarray, "f h w 3"],
    rendered: UInt8[np.ndarray, "_ _ _ 3"],
    cover: Float[np.ndarray, "n _ _ _"],
) -> float:
    """Return the same with e over the pixels of which any object covers more than half (`cover` as from `coverage`).

    Objects are a tenth of a video, so one whose shapes have melted away can still have a high `psnr`. Raises
    UsageError when the sizes differ or there is no such pixel.
    """
    error = _squared_error(video, rendered)
    if cover.shape[1:] != video.shape[:3]:
        raise UsageError(
            f"coverage of {_size(cover[0])} does not fit a video of {_size(video)}; compute it at that size",
            code="sizes_differ",
        )
    foreground = (cover > COVERED).any(axis=0)
    if not foreground.any():
        raise UsageError(
            "no object covers half a pixel, so there is no foreground to measure; choose another scene",
            code="scene_empty",
        )
    return _decibels(error[foreground].mean())


def _squared_error(
    video: UInt8[np.ndarray, "f h w 3"], rendered: UInt8[np.ndarray, "_ _ _ 3"]
) -> Float[np.ndarray, "f h w 3"]:
    if video.shape != rendered.shape:
        raise UsageError(
            f"a video of {_size(video)} is compared with one of {_size(rendered)}; render it at that size",
            code="sizes_differ",
        )
    return (video.astype(np.float64) - rendered) ** 2


def _decibels(error: np.floating) -> float:
    return 10 * math.log10(WHITE_LEVEL**2 / error) if error else math.inf


def _size(video: np.ndarray) -> str:
    return "x".join(map(str, video.shape[:3]))
