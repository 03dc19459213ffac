"""Segments: clean images and videos in the sequence of the video that is denoised, told apart by a second rotation.

Source: Bernini-R (ByteDance, "Bernini", 2026, arXiv 2605.22344). Its models have no weights of their own for them: the
patch embedding, the noise level and the text are the video's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.errors import UsageError
from kinoform.models.protocols import TransformerSizes
from kinoform.ops.patch import grid_of
from kinoform.ops.rope import grid_positions, phases, turn
from kinoform.types import Grid, InContextSegment, Latents


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRotation:
    """Numbers of the segments, by which all columns of their queries and keys are turned: the video has 0.

    They count from 1; more than `trained` segments are spread evenly over 1 to `trained`, the range that the model has
    seen. Raises UsageError for a `trained` below 1.
    """

    trained: int = 5

    def __post_init__(self) -> None:
        if self.trained < 1:
            raise UsageError(
                f"segments are numbered up to trained={self.trained}; give 1 or more", code="value_out_of_range"
            )

    def numbers(self, count: int) -> tuple[float, ...]:
        """Return the number of each of so many segments of one sequence, in their order."""
        step = 1.0 if count <= self.trained else (self.trained - 1) / (count - 1)
        return tuple(1 + index * step for index in range(count))

    def phases(self, grids: Sequence[Grid], head_width: int) -> Float[Tensor, "g p"]:
        """Return the angles of all tokens of the segments: each counts its places from 0, and is turned by its number.

        Float64, on the CPU.
        """
        numbers = self.numbers(len(grids))
        return torch.cat(
            [
                phases(grid_positions(grid), head_width) + turn(number, head_width)
                for grid, number in zip(grids, numbers, strict=True)
            ]
        )


class ReadsSegments(TransformerSizes, Protocol):
    """Sizes of a transformer, and how it tells segments apart; None where it reads none."""

    @property
    def segments(self) -> SegmentRotation | None: ...


def sequence_phases(spec: ReadsSegments, segments: Sequence[InContextSegment], grid: Grid) -> Float[Tensor, "l p"]:
    """Return the angles of the tokens of a video of this grid, and of those of the segments behind it; float64.

    Raises UsageError for segments that the model does not read, of other channels than the video's, and of sizes that
    are not whole patches.
    """
    width, own = spec.dim // spec.heads, phases(grid_positions(grid), spec.dim // spec.heads)
    if not segments:
        return own
    if spec.segments is None:
        groups = ", ".join(dict.fromkeys(segment.group for segment in segments))
        raise UsageError(
            f"in-context segments ({groups}) are given to a model that was not trained with any; give one that was, "
            "or, to train one, a spec with segments=SegmentRotation()",
            code="segments_not_taken",
        )
    for segment in segments:
        shape = tuple(segment.latents.shape)
        if shape[1] != spec.out_channels or any(n % p for n, p in zip(shape[2:], spec.patch, strict=True)):
            raise UsageError(
                f"a segment of the group {segment.group!r} has latents {list(shape)}; the model reads "
                f"{spec.out_channels} channels in whole patches of {list(spec.patch)}",
                code="wrong_shape",
            )
    grids = [grid_of(segment.latents, spec.patch) for segment in segments]
    return torch.cat([own, spec.segments.phases(grids, width)])


def followed(
    video: Float[Tensor, "b l d"],
    segments: Sequence[InContextSegment],
    embedding: Callable[[Latents], Float[Tensor, "#b g d"]],
) -> Float[Tensor, "b more d"]:
    """Return the video's tokens with those of the segments behind them.

    They are embedded anew at every step, and take no memory between steps: the latents are narrower by far.
    """
    if not segments:
        return video
    embedded = [embedding(segment.latents).expand(len(video), -1, -1) for segment in segments]
    return torch.cat([video, *embedded], dim=1)
