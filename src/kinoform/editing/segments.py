"""Spans of frames: a long video in overlapping pieces, a short one filled up to a legal length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from kinoform.conditions.protocols import Units
from kinoform.errors import UsageError

OVERLAP_DIVISOR = 4
"""Share of a segment that two have in common at least, by default: a fourth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Frames `start` up to `stop` of a video, made as `length` frames: the last is repeated to fill up.

    The first `shared` frames belong to the span before as well.
    """

    start: int
    stop: int
    length: int
    shared: int

    def source_indices(self) -> list[int]:
        """Return, for each frame that is made, the index of the video's frame that it shows."""
        return [min(self.start + index, self.stop - 1) for index in range(self.length)]

    def kept(self, time: int) -> int:
        """Count the shared frames that fill whole latent frames of `time` frames each, the first of one."""
        return 1 + (self.shared - 1) // time * time if self.shared else 0


def spans(num_frames: int, *, length: int, overlap: int | None, units: Units, name: str) -> tuple[Span, ...]:
    """Return the fewest spans of `length` frames that cover a video, evenly spaced; or one shorter span.

    They overlap by at least `overlap` frames. Raises UsageError, with the video's `name`, for a video shorter than a
    latent frame, and for an overlap as long as a span.
    """
    time = units.stride[0]
    if num_frames < time:
        raise UsageError(
            f"{name} is too short to edit: it has {num_frames} frames; give {time} or more", code="video_too_short"
        )
    if num_frames <= length:
        return (Span(start=0, stop=num_frames, length=legal(num_frames, units), shared=0),)
    overlap = max(1, length // OVERLAP_DIVISOR) if overlap is None else overlap
    if overlap >= length:
        raise UsageError(
            f"segments of {length} frames cannot overlap by {overlap}; give a smaller overlap, or make more frames "
            "at once",
            code="value_out_of_range",
        )
    return tuple(_spaced(num_frames, length, -(-(num_frames - overlap) // (length - overlap))))


def fade(shared: int) -> Float32[np.ndarray, " shared"]:
    """Return the weight of the later of two spans in each of their shared frames; the earlier has the rest."""
    return ((np.arange(shared) + 1) / (shared + 1)).astype(np.float32)


def legal(num_frames: int, units: Units) -> int:
    """Return the least legal length of a video that holds so many frames."""
    time, patch = units.stride[0], units.patch[0]
    latent_frames = 1 + -(-(num_frames - 1) // time)
    return 1 + time * (-(-latent_frames // patch) * patch - 1)


def _spaced(num_frames: int, length: int, count: int) -> Iterator[Span]:
    stop = 0
    for number in range(count):
        start = round(number * (num_frames - length) / (count - 1))
        yield Span(start=start, stop=start + length, length=length, shared=max(0, stop - start))
        stop = start + length
