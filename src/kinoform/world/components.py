"""Connected regions of masks, frame by frame, and the two morphological steps that the reader needs."""

import numpy as np
from jaxtyping import Bool, Int


def label(mask: Bool[np.ndarray, "f h w"]) -> Int[np.ndarray, "f h w"]:
    """Number the 4-connected regions of every frame from 1 on, 0 outside; no number occurs in two frames.

    Rows are cut into runs; runs that overlap in neighbouring rows are joined by taking the lowest number,
    with pointer jumping (Shiloach and Vishkin 1982) so that a few rounds suffice.
    """
    frames, height, width = mask.shape
    # One empty column and one empty row keep runs from continuing in the next row or frame.
    padded = np.zeros((frames, height + 1, width + 1), dtype=np.int8)
    padded[:, :height, :width] = mask
    steps = np.flatnonzero(np.diff(padded.ravel(), prepend=np.int8(0)))
    starts, ends = steps[::2], steps[1::2]
    upper, lower = _touching(starts, ends, width + 1)
    roots = _joined(len(starts), upper, lower)
    # A region's root is its own lowest run, so counting the roots up to there numbers the regions.
    numbers = np.cumsum(roots == np.arange(len(roots)))[roots]
    labels = np.zeros(mask.shape, dtype=np.int64)
    labels[mask] = np.repeat(numbers, ends - starts)
    return labels


def dilate(mask: Bool[np.ndarray, "f h w"]) -> Bool[np.ndarray, "f h w"]:
    """Return the mask and its four neighbours."""
    grown = mask.copy()
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    grown[:, :, 1:] |= mask[:, :, :-1]
    grown[:, :, :-1] |= mask[:, :, 1:]
    return grown


def erode(mask: Bool[np.ndarray, "f h w"]) -> Bool[np.ndarray, "f h w"]:
    """Return the pixels whose four neighbours are in the mask; beyond the frame counts as inside."""
    return ~dilate(~mask)


def _touching(
    starts: Int[np.ndarray, " r"], ends: Int[np.ndarray, " r"], stride: int
) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"]]:
    """Return the pairs of runs that share a column in neighbouring rows."""
    first = np.searchsorted(ends, starts + stride, side="right")
    last = np.searchsorted(starts, ends + stride, side="left")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    within = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts)
    return upper, np.repeat(first, counts) + within


def _joined(count: int, upper: Int[np.ndarray, " e"], lower: Int[np.ndarray, " e"]) -> Int[np.ndarray, " r"]:
    """Return the lowest run of each run's region."""
    roots = np.arange(count)
    while len(upper):
        lowest = np.minimum(roots[upper], roots[lower])
        np.minimum.at(roots, roots[upper], lowest)
        np.minimum.at(roots, roots[lower], lowest)
        roots = roots[roots]
        if np.array_equal(roots[upper], roots[lower]):
            break
    while not np.array_equal(roots, roots[roots]):
        roots = roots[roots]
    return roots


def boxed(mask: Bool[np.ndarray, "f h w"]) -> Bool[np.ndarray, "f h w"]:
    """Fill, in each frame, the smallest upright box around all that is in the mask."""
    boxes = []
    for axis in (1, 2):
        some = mask.any(axis=3 - axis, keepdims=True)
        boxes.append(
            np.maximum.accumulate(some, axis) & np.flip(np.maximum.accumulate(np.flip(some, axis), axis), axis)
        )
    return boxes[0] & boxes[1]
