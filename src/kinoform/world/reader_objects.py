"""Find the objects of a video: how many there are, and for each its colour and how it covers the pixels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from kinoform.world.components import dilate, erode, label
from kinoform.world.palette import BACKGROUND_COLOURS, Colour

FOREGROUND = 40
"""Distance from the background, in sRGB units, from which a pixel belongs to an object."""

SMALLEST_AREA = 0.006
"""Smaller regions, in frame squares, are specks."""

MOST_OBJECTS = 4
"""More are counted but not described."""

SECOND_SHARE = 0.15
SECOND_DISTANCE = 60
"""A region is two touching objects when a second palette colour holds this share of it, and neither colour
is closer than this to a mixture of the other with the background, which is what soft edges are made of."""

FEWEST_PIXELS = 10
CONTRAST = 1.4
"""Coverage is steepened about 1/2 by this factor, so that noise stays at 0 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundObjects:
    """One object: `cover` is 0 to 1 per pixel of the frames with these numbers, `rgb` its median colour."""

    rgb: Float[np.ndarray, " 3"]
    colour: Colour
    frames: Int[np.ndarray, " k"]
    cover: Float[np.ndarray, "k h w"]


def find_objects(
    planes: Float[np.ndarray, "3 f h w"],
    distance: Float[np.ndarray, "f h w"],
    foreground: Bool[np.ndarray, "f h w"],
    ground: Float[np.ndarray, " 3"],
) -> tuple[int, list[FoundObjects]]:
    """Find the number of objects that most frames show, and each from left to right (at most MOST_OBJECTS).

    `distance` is each pixel's from the background, whose first shade is `ground`, in sRGB units.
    """
    labels = _without_specks(_separated(planes, foreground, ground))
    count, owner = _owners(labels)
    things = [_describe(planes, distance, owner, number) for number in range(1, min(count, MOST_OBJECTS) + 1)]
    return count, things


def centroids(cover: Float[np.ndarray, "k h w"]) -> Float[np.ndarray, "k 2"]:
    """Return (x, y) in pixels, 0 at the middle of the first."""
    _, height, width = cover.shape
    x = cover.sum(axis=1) @ np.arange(width, dtype=np.float32)
    y = cover.sum(axis=2) @ np.arange(height, dtype=np.float32)
    return np.stack([x, y], axis=1) / cover.sum(axis=(1, 2))[:, None]


def nearest_colour(rgb: Float[np.ndarray, "p 3"]) -> Int[np.ndarray, " p"]:
    """Return the index in BACKGROUND_COLOURS of the palette colour nearest to each pixel."""
    palette = np.array([colour.rgb for colour in BACKGROUND_COLOURS], dtype=np.float32)
    # |a - b|^2 without its first term, which is the same for every b.
    return np.argmin(np.sum(palette**2, axis=1) - 2 * rgb @ palette.T, axis=1)


def _smallest(shape: tuple[int, ...]) -> float:
    return SMALLEST_AREA * min(shape[-2:]) ** 2


def _separated(
    planes: Float[np.ndarray, "3 f h w"],
    foreground: Bool[np.ndarray, "f h w"],
    ground: Float[np.ndarray, " 3"],
) -> Int[np.ndarray, "f h w"]:
    """Return the regions of the foreground, where two objects that touch are told apart by their colours."""
    labels = label(foreground)
    core = erode(foreground)
    owners, rgb = labels[core], planes[:, core].T
    tones = nearest_colour(rgb)
    cells = (int(labels.max()) + 1, len(BACKGROUND_COLOURS))
    shares = np.bincount(owners * cells[1] + tones, minlength=cells[0] * cells[1]).reshape(cells)
    order = np.argsort(shares, axis=1)[:, :-3:-1]
    second_share = np.take_along_axis(shares, order, axis=1)[:, 1]
    second = np.zeros_like(foreground)
    for number in np.flatnonzero(second_share >= np.maximum(SECOND_SHARE * shares.sum(axis=1), FEWEST_PIXELS)):
        pair = [np.median(rgb[(owners == number) & (tones == tone)], axis=0) for tone in order[number]]
        if min(_from_mixtures(pair[0], pair[1], ground), _from_mixtures(pair[1], pair[0], ground)) >= SECOND_DISTANCE:
            region = labels == number
            away = [np.sum((planes[:, region].T - colour) ** 2, axis=1) for colour in pair]
            second[region] = away[1] < away[0]
    if not second.any():
        return labels
    first = label(foreground & ~second)
    return np.where(second, label(second) + first.max(), first)


def _from_mixtures(
    colour: Float[np.ndarray, " 3"], other: Float[np.ndarray, " 3"], ground: Float[np.ndarray, " 3"]
) -> float:
    """Return the distance of a colour from the segment between the background and another colour."""
    axis, away = other - ground, colour - ground
    share = np.clip(away @ axis / max(float(axis @ axis), 1.0), 0, 1)
    return float(np.linalg.norm(away - share * axis))


def _without_specks(labels: Int[np.ndarray, "f h w"]) -> Int[np.ndarray, "f h w"]:
    keep = np.bincount(labels.ravel()) >= _smallest(labels.shape)
    keep[0] = False
    return (np.cumsum(keep) * keep)[labels]


def _owners(labels: Int[np.ndarray, "f h w"]) -> tuple[int, Int[np.ndarray, "f h w"]]:
    """Return the usual number of regions per frame, and which object (1 on, from the left) has each pixel.

    Frames with fewer regions are left without owners; in those with more, the largest count.
    """
    pixels = np.flatnonzero(labels)
    numbers = labels.ravel()[pixels]
    areas = np.bincount(numbers, minlength=1)
    middles = np.bincount(numbers, weights=pixels % labels.shape[2], minlength=1) / np.maximum(areas, 1)
    home = np.zeros(len(areas), dtype=np.int64)
    home[numbers] = pixels // labels[0].size
    per_frame = np.bincount(home[1:], minlength=len(labels))
    count = int(np.bincount(per_frame).argmax())
    numbers_by_region = np.zeros(len(areas), dtype=np.int64)
    for frame in np.flatnonzero(per_frame >= count) if count else ():
        regions = 1 + np.flatnonzero(home[1:] == frame)
        largest = regions[np.argsort(areas[regions], kind="stable")[::-1][:count]]
        numbers_by_region[largest[np.argsort(middles[largest])]] = np.arange(1, count + 1)
    return count, numbers_by_region[labels]


def _describe(
    planes: Float[np.ndarray, "3 f h w"],
    distance: Float[np.ndarray, "f h w"],
    owner: Int[np.ndarray, "f h w"],
    number: int,
) -> FoundObjects:
    """Colour by the median of the eroded region; coverage by how far a pixel is from background to object."""
    region = owner == number
    inner = erode(region)
    core = inner if np.count_nonzero(inner) >= FEWEST_PIXELS else region
    rgb = np.median(planes[:, core], axis=1)
    frames = np.flatnonzero(region.any(axis=(1, 2)))
    near = (dilate(dilate(region)) & ((owner == 0) | region))[frames]
    share = distance[frames] / np.median(distance[core])
    cover = np.where(near, np.clip(0.5 + CONTRAST * (share - 0.5), 0, 1), 0).astype(np.float32)
    colour = BACKGROUND_COLOURS[int(nearest_colour(rgb[None])[0])]
    return FoundObjects(rgb=rgb, colour=colour, frames=frames, cover=cover)
