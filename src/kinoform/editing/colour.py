"""Colour matching: an affine map of each channel from a model's output to the video around it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Real

GAINS = 0.8, 1.25
"""Limits of the correction of contrast; a larger difference shows other content, not other colours."""

MAX_CORRECTION = 32.0
"""Largest shift of the mean of a channel, of 255."""

FLAT = 4.0
"""Standard deviation, of 255, below which a channel is flat and its contrast is not corrected."""

MIN_PIXELS = 16
"""Least number of pixels to match colours by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """Map value * gain + shift, by channel, on 0 to 255; `correction` is the shift of the mean that it was made for."""

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    correction: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __call__(self, pixels: Float32[np.ndarray, "*shape 3"]) -> Float32[np.ndarray, "*shape 3"]:
        gain, shift = np.asarray(self.gain, np.float32), np.asarray(self.shift, np.float32)
        return (pixels * gain + shift).clip(0, 255)


SAME = Affine()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Number of pixels, sum of each channel and of its square; the moments of two sets add."""

    count: int = 0
    total: Float64[np.ndarray, " 3"] = field(default_factory=lambda: np.zeros(3))
    squares: Float64[np.ndarray, " 3"] = field(default_factory=lambda: np.zeros(3))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            count=self.count + other.count, total=self.total + other.total, squares=self.squares + other.squares
        )

    @property
    def mean(self) -> Float64[np.ndarray, " 3"]:
        return self.total / self.count

    @property
    def deviation(self) -> Float64[np.ndarray, " 3"]:
        return np.sqrt(np.maximum(self.squares / self.count - self.mean**2, 0))


def moments(pixels: Real[np.ndarray, "n 3"]) -> Moments:
    values = pixels.astype(np.float64)
    return Moments(count=len(values), total=values.sum(axis=0), squares=(values**2).sum(axis=0))


def alike(source: Real[np.ndarray, "n 3"], made: Real[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
    """Return the pixels that can show the same content: no channel differs by more than a correction may."""
    return np.abs(made.astype(np.float32) - source).max(axis=-1) <= MAX_CORRECTION


def match(source: Moments, made: Moments) -> Affine:
    """Return the map that gives made pixels the mean and the deviation of the source's.

    Gains and the correction of the mean are bounded, flat channels keep their contrast, and fewer than MIN_PIXELS
    pixels change nothing.
    """
    if min(source.count, made.count) < MIN_PIXELS:
        return SAME
    flat = np.minimum(source.deviation, made.deviation) < FLAT
    gain = np.where(flat, 1, source.deviation / np.maximum(made.deviation, FLAT)).clip(*GAINS)
    correction = (source.mean - made.mean).clip(-MAX_CORRECTION, MAX_CORRECTION)
    shift = made.mean + correction - gain * made.mean
    return Affine(gain=_three(gain), shift=_three(shift), correction=_three(correction))


def _three(values: Float64[np.ndarray, " 3"]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
