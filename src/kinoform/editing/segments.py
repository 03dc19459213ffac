"""A video longer than a model makes, in overlapping pieces; a shorter one filled up to a length that it makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from kinoform.conditions.protocols import Units
from kinoform.errors import UsageError

PART = 4
"""Two segments share at least a fourth of one, where nobody says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Frames `start` up to `stop` of a video, of which a model makes `length`: the last is repeated to fill up.

    `shared` frames at the beginning belong to the span before as well.
    """

    start: int
    stop: int
    length: int
    shared: int

    def places(self) -> list[int]:
        """The frame of the video that stands at each frame to be made."""
        return [min(self.start + place, self.stop - 1) for place in range(self.length)]

    def held(self, time: int) -> int:
        """Count the shared frames that fill latent frames that hold `time` frames, the first one alone."""
        return 1 + (self.shared - 1) // time * time if self.shared else 0


def spans(num_frames: int, *, most: int, overlap: int | None, units: Units, name: str) -> tuple[Span, ...]:
    """The fewest spans of `most` frames that cover a video and overlap by `overlap`, evenly laid; or one shorter span.

    Raises UsageError for a video shorter than a latent frame, and for an overlap as long as a span. `name` is what
    the error calls the video.
    """
    time = units.stride[0]
    if num_frames < time:
        raise UsageError(
            f"{name} is too short to edit: it has {num_frames} frames; give {time} or more", code="video_too_short"
        )
    if num_frames <= most:
        return (Span(start=0, stop=num_frames, length=legal(num_frames, units), shared=0),)
    least = max(1, most // PART) if overlap is None else overlap
    if least >= most:
        raise UsageError(
            f"segments of {most} frames cannot overlap by {least}; give a smaller overlap, or make more frames at once",
            code="value_out_of_range",
        )
    count = -(-(num_frames - least) // (most - least))
    return tuple(_laid(num_frames, most, count))


def fade(shared: int) -> Float32[np.ndarray, " shared"]:
    """The weight of the later of two spans in each of the frames that they share; the earlier has the rest."""
    return ((np.arange(shared) + 1) / (shared + 1)).astype(np.float32)


def legal(num_frames: int, units: Units) -> int:
    """The least legal length of a video that holds so many frames."""
    time, part = units.stride[0], units.patch[0]
    latent_frames = 1 + -(-(num_frames - 1) // time)
    return 1 + time * (-(-latent_frames // part) * part - 1)


def _laid(num_frames: int, most: int, count: int) -> Iterator[Span]:
    stop = 0
    for number in range(count):
        start = round(number * (num_frames - most) / (count - 1))
        yield Span(start=start, stop=start + most, length=most, shared=max(0, stop - start))
        stop = start + most
