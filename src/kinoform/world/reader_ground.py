"""Read the background of a video: its colour, its texture, and how far it drifts."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float

from kinoform.world.backgrounds import (
    CHECKER,
    FIXED,
    FREQUENCY,
    PANS_LEFT,
    PANS_RIGHT,
    PLAIN,
    STRIPES,
    Camera,
    Texture,
)
from kinoform.world.palette import BACKGROUND_COLOURS, Colour, shade

BORDER = 32
"""The border is one part in so many of the frame side, and at least one pixel."""

NEAR_GROUND = 60
"""Border pixels closer to the background than this (in sRGB units) correct its colour, frame by frame."""

PATTERN_CONTRAST = 0.09
"""The least Fourier amplitude of a texture, whose full patterns have 0.28 (stripes) and 0.24 (checker)."""

PAN_DISTANCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The segment between a background's two shades: `base[f] + t * axis` with t in 0 to 1."""

    colour: Colour
    base: Float[np.ndarray, "f 3"]
    axis: Float[np.ndarray, " 3"]

    def place(
        self, planes: Float[np.ndarray, "3 f h w"]
    ) -> tuple[Float[np.ndarray, "f h w"], Float[np.ndarray, "f h w"]]:
        """Return each pixel's t, not limited to 0 to 1, and its distance from the segment in sRGB units."""
        away = planes - self.base.T[:, :, None, None]
        along = np.einsum("cfhw,c->fhw", away, self.axis / np.sum(self.axis**2))
        inside = np.clip(along, 0, 1)
        squared = np.zeros_like(along)
        for plane, slope in zip(away, self.axis, strict=True):
            squared += (plane - slope * inside) ** 2
        return along, np.sqrt(squared)


def border_mask(height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Return the pixels of a frame that belong to its border."""
    depth = max(1, min(height, width) // BORDER)
    edge = np.ones((height, width), dtype=bool)
    edge[depth : height - depth, depth : width - depth] = False
    return edge


def find_ground(planes: Float[np.ndarray, "3 f h w"]) -> Ground:
    """Return the palette colour whose segment most border pixels are nearest to, moved to where they lie."""
    border = np.moveaxis(planes[:, :, border_mask(*planes.shape[2:])], 0, -1)
    bases = np.array([colour.rgb for colour in BACKGROUND_COLOURS], dtype=np.float32)
    axes = np.array([shade(colour) for colour in BACKGROUND_COLOURS], dtype=np.float32) - bases
    squared = _squared_distances(border, bases, axes)
    votes = np.bincount(np.argmin(squared, axis=-1).ravel(), minlength=len(bases))
    winner = int(np.argmax(votes))
    away = border - bases[winner]
    along = np.clip(away @ axes[winner] / np.sum(axes[winner] ** 2), 0, 1)
    near = (squared[..., winner] < NEAR_GROUND**2).astype(np.float32)
    rest = (away - along[..., None] * axes[winner]) * near[..., None]
    offset = rest.sum(axis=1) / np.maximum(near.sum(axis=1), 1)[:, None]
    return Ground(
        colour=BACKGROUND_COLOURS[winner],
        base=bases[winner] + offset,
        axis=axes[winner],
    )


def find_texture(along: Float[np.ndarray, "f h w"], clear: Bool[np.ndarray, "f h w"]) -> tuple[Texture, Camera, float]:
    """Texture, camera and drift to the right in frame sides, from t on the pixels clear of objects.

    A pattern that moves by d multiplies its Fourier component of frequency k along x by exp(-2 pi i k d).
    """
    weights = clear.astype(np.float32)
    total = np.maximum(weights.sum(axis=(1, 2)), 1)
    mean = (along * weights).sum(axis=(1, 2)) / total
    signal = (along - mean[:, None, None]) * weights
    waves = _components(signal) / total[:, None]
    strength = np.abs(waves).mean(axis=0)
    stripes, checker = float(strength[0]), float(np.hypot(strength[1], strength[2]))
    if max(stripes, checker) < PATTERN_CONTRAST:
        return PLAIN, FIXED, 0.0
    texture, kept = (STRIPES, waves[:, :1]) if stripes > checker else (CHECKER, waves[:, 1:])
    turns = np.angle(np.sum(kept[1:] * kept[:-1].conj(), axis=1)) / (2 * math.pi)
    drift = -float(turns.sum()) / FREQUENCY
    camera = FIXED if abs(drift) < PAN_DISTANCE else PANS_LEFT if drift > 0 else PANS_RIGHT
    return texture, camera, drift


def _squared_distances(
    border: Float[np.ndarray, "f p 3"], bases: Float[np.ndarray, "k 3"], axes: Float[np.ndarray, "k 3"]
) -> Float[np.ndarray, "f p k"]:
    """Compute them to every segment base + t * axis; |c - b - t a|^2 is multiplied out into matrix products."""
    length = np.sum(axes**2, axis=1)
    along = border @ axes.T - np.sum(bases * axes, axis=1)
    inside = np.clip(along / length, 0, 1)
    from_base = np.sum(border**2, axis=-1, keepdims=True) - 2 * border @ bases.T + np.sum(bases**2, axis=1)
    return from_base + inside * (inside * length - 2 * along)


def _components(signal: Float[np.ndarray, "f h w"]) -> Complex[np.ndarray, "f 3"]:
    """Return the Fourier components at (k, 0), (k, k) and (k, -k) cycles per frame side along x and y."""
    _, height, width = signal.shape
    side = min(height, width)
    along_x = _wave(FREQUENCY * np.arange(width) / side)
    rows = signal @ along_x
    turned = _wave(FREQUENCY * np.arange(height) / side)
    return np.stack([rows.sum(axis=1), rows @ turned, rows @ turned.conj()], axis=1)


def _wave(cycles: Float[np.ndarray, " n"]) -> Complex[np.ndarray, " n"]:
    return np.exp(-2j * math.pi * cycles).astype(np.complex64)
