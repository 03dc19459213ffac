"""Full attention beside factorized, of the same width and as many layers: from which length on the second is cheaper.

With T frames of P places, full attention takes (T P)^2 pairs, factorized T P^2 + P T^2 and twice the projections.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from kinoform.models.attention.factorized import Alternating
from kinoform.models.block import FullBlock
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.models.protocols import BlockSpec
from kinoform.plan.memory import peaks
from kinoform.plan.parameters import transformer_count
from kinoform.plan.transformer import transformer_flops
from kinoform.plan.work import Sizes, Work, check, grid_of, told

BLOCKS: Mapping[str, BlockSpec] = {
    "full": FullBlock(),
    "factorized": FactorizedBlock(),
    "alternating": FullBlock(attention=Alternating()),
}
SIDES = {"480p": (832, 480), "720p": (1280, 720), "1080p": (1920, 1080)}
SECONDS = (5.0, 10.0, 20.0, 30.0, 60.0)
LONGEST = 3600.0
"""Seconds of video beyond which no crossover is sought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """`flops` of one branch of one step; `peak` bytes while a video is denoised."""

    flops: int
    peak: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """A video of one length, with a forward for each key of BLOCKS."""

    seconds: float
    num_frames: int
    tokens: int
    forwards: Mapping[str, Forward]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossover:
    """Videos of one size. From `cheaper_from` frames on factorized takes fewer operations; None: never in an hour."""

    name: str
    width: int
    height: int
    cheaper_from: int | None
    lengths: tuple[Length, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossovers:
    """Of one model, at its video's own size and at those of SIDES. `parameters` of the transformer by key of BLOCKS."""

    fps: float
    parameters: Mapping[str, int]
    sizes: tuple[Crossover, ...]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def crossovers(sizes: Sizes, work: Work, *, fps: float, dtype: torch.dtype, device: str) -> Crossovers:
    """Of the video that is asked for and of videos of SECONDS. Sides that the model cannot make are the next it can.

    Raises UsageError when the codec cannot hold the video that is asked for.
    """
    check(sizes, work)
    kinds = {
        name: replace(sizes, transformer=replace(sizes.transformer, block=block)) for name, block in BLOCKS.items()
    }
    sides = {name: _whole_patches(sizes, wanted) for name, wanted in SIDES.items()}
    if (work.width, work.height) not in sides.values():
        sides = {"asked for": (work.width, work.height)} | sides
    counts = sorted({work.num_frames, *(_frames(sizes, seconds, fps) for seconds in SECONDS)})
    found = []
    for name, (width, height) in sides.items():
        videos = [replace(work, width=width, height=height, num_frames=count) for count in counts]
        found.append(
            Crossover(
                name=name,
                width=width,
                height=height,
                cheaper_from=cheaper_from(kinds["full"], kinds["factorized"], videos[0], fps),
                lengths=tuple(_length(kinds, video, fps, dtype=dtype, device=device) for video in videos),
            )
        )
    parameters = {name: transformer_count(kind.transformer).parameters for name, kind in kinds.items()}
    return Crossovers(fps=fps, parameters=parameters, sizes=tuple(found))


def cheaper_from(full: Sizes, factorized: Sizes, work: Work, fps: float) -> int | None:
    """The fewest frames at which the second takes fewer operations; None where it never does within an hour.

    The difference over T is a T P (P - 1) - b for some a, b >= 0, but for what does not grow: it changes sign once.
    """
    counts = _legal(full, _frames(full, LONGEST, fps))

    def cheaper(count: int) -> bool:
        video = replace(work, num_frames=count)
        return _flops(factorized, video) < _flops(full, video)

    place = bisect_left(counts, True, key=cheaper)
    return counts[place] if place < len(counts) else None


def _length(kinds: Mapping[str, Sizes], video: Work, fps: float, *, dtype: torch.dtype, device: str) -> Length:
    forwards = {}
    for name, kind in kinds.items():
        denoising = next(peak for peak in peaks(kind, video, dtype, device) if peak.stage == "denoise")
        forwards[name] = Forward(flops=_flops(kind, video), peak=denoising.total)
    tokens = grid_of(kinds["full"], video).tokens
    return Length(seconds=video.num_frames / fps, num_frames=video.num_frames, tokens=tokens, forwards=forwards)


def _flops(sizes: Sizes, work: Work) -> int:
    return transformer_flops(sizes.transformer, grid_of(sizes, work), told(sizes, work)).forward


def _whole_patches(sizes: Sizes, sides: tuple[int, int]) -> tuple[int, int]:
    """The sides, or the next that codec and patch hold: 1080 lines become 1088."""
    (_, rows, columns), (_, tall, wide) = sizes.units.stride, sizes.units.patch
    width, height = sides
    return -(-width // (columns * wide)) * columns * wide, -(-height // (rows * tall)) * rows * tall


def _frames(sizes: Sizes, seconds: float, fps: float) -> int:
    """The legal number nearest to a length."""
    counts = _legal(sizes, int(seconds * fps) + sizes.units.stride[0] * sizes.units.patch[0])
    return min(counts, key=lambda count: abs(count - seconds * fps))


def _legal(sizes: Sizes, most: int) -> Sequence[int]:
    """Numbers of frames that codec and patch hold, up to `most`; the least of them in any case."""
    time, part = sizes.units.stride[0], sizes.units.patch[0]
    first = 1 + time * (part - 1)
    return range(first, max(most, first) + 1, time * part)
