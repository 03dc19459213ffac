"""Full attention beside factorized, of the same width and as many layers: from which length on the second is cheaper.

With T frames of P places, full attention takes (T P)^2 pairs, factorized T P^2 + P T^2 and twice the projections.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from math import prod

import torch

from kinoform.models.attention.factorized import Alternating
from kinoform.models.block import FullBlock
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.models.protocols import BlockSpec
from kinoform.ops.dry_run import kernels_of
from kinoform.plan.memory import denoise_peak, denoise_runs
from kinoform.plan.transformer import transformer_count
from kinoform.plan.workload import Sizes, Workload, check, grid_of
from kinoform.solvers.scales import GuidanceScales

BLOCKS: Mapping[str, BlockSpec] = {
    "full": FullBlock(),
    "factorized": FactorizedBlock(),
    "alternating": FullBlock(attention=Alternating()),
}
SIDES = {"480p": (832, 480), "720p": (1280, 720), "1080p": (1920, 1080)}
SECONDS = (5.0, 10.0, 20.0, 30.0, 60.0)
SAMPLES = 3
"""Lengths that determine operations of every length, which are a polynomial of degree 2 in it."""

LONGEST = 3600.0
"""Seconds of video beyond which no crossover is sought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """`flops` of one forward; `peak` bytes while a video is denoised."""

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
    """Crossovers of a model, at its video's size and those of SIDES; transformer `parameters` by key of BLOCKS."""

    fps: float
    parameters: Mapping[str, int]
    sizes: tuple[Crossover, ...]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def crossovers(sizes: Sizes, workload: Workload, *, fps: float, dtype: torch.dtype, device: str) -> Crossovers:
    """Return the crossovers of the video that is asked for and of videos of SECONDS.

    Sides that the model cannot make are the next it can. Of several transformers the first is compared. Raises
    UsageError when the codec cannot hold the video.
    """
    check(sizes, workload)
    scales = GuidanceScales(experts=1, numbers=tuple(("", *item) for item in workload.scales.of_expert(0).items()))
    workload = replace(workload, guidance_scale=scales, boundaries=())
    kinds = {
        name: replace(sizes, transformers=(replace(sizes.transformer, block=block),)) for name, block in BLOCKS.items()
    }
    sides = {name: _whole_patches(sizes, wanted) for name, wanted in SIDES.items()}
    if (workload.width, workload.height) not in sides.values():
        sides = {"asked for": (workload.width, workload.height)} | sides
    counts = sorted({workload.num_frames, *(_frames(sizes, seconds, fps) for seconds in SECONDS)})
    found = []
    for name, (width, height) in sides.items():
        videos = [replace(workload, width=width, height=height, num_frames=count) for count in counts]
        forwards = {key: _forwards(kind, videos, dtype=dtype, device=device) for key, kind in kinds.items()}
        lengths = tuple(
            Length(
                seconds=video.num_frames / fps,
                num_frames=video.num_frames,
                tokens=grid_of(sizes, video).tokens,
                forwards={key: forwards[key][video.num_frames] for key in kinds},
            )
            for video in videos
        )
        full, factorized = (
            polynomial({count: forwards[kind][count].flops for count in counts[:SAMPLES]})
            for kind in ("full", "factorized")
        )
        found.append(
            Crossover(
                name=name, width=width, height=height, lengths=lengths,
                cheaper_from=_first(full, factorized, _legal(sizes, _frames(sizes, LONGEST, fps))),
            )
        )  # fmt: skip
    parameters = {name: transformer_count(kind.transformer).parameters for name, kind in kinds.items()}
    return Crossovers(fps=fps, parameters=parameters, sizes=tuple(found))


def cheaper_from(full: Sizes, factorized: Sizes, workload: Workload, fps: float) -> int | None:
    """The fewest frames at which the second takes fewer operations; None where it never does within an hour."""
    counts = _legal(full, _frames(full, LONGEST, fps))
    one, other = (
        polynomial({count: _flops(sizes, replace(workload, num_frames=count)) for count in counts[:SAMPLES]})
        for sizes in (full, factorized)
    )
    return _first(one, other, counts)


def polynomial(samples: Mapping[int, int]) -> Callable[[int], Fraction]:
    """The polynomial of least degree through the samples (Lagrange), exactly."""

    def value(at: int) -> Fraction:
        return sum(
            (
                found
                * prod((Fraction(at - other, place - other) for other in samples if other != place), start=Fraction(1))
                for place, found in samples.items()
            ),
            Fraction(0),
        )

    return value


def _first(full: Callable[[int], Fraction], factorized: Callable[[int], Fraction], counts: Sequence[int]) -> int | None:
    """The difference over T is a T P (P - 1) - b with a, b >= 0, but for what does not grow; its sign changes once."""
    place = bisect_left(counts, True, key=lambda count: factorized(count) < full(count))
    return counts[place] if place < len(counts) else None


def _forwards(sizes: Sizes, videos: Sequence[Workload], *, dtype: torch.dtype, device: str) -> dict[int, Forward]:
    """Return the forwards of videos of one size, by their numbers of frames, without a run of those on a line.

    The peak is the largest of moments that are linear in the length, a convex function of it: where a length between
    two others is on their line, so is every other between them.
    """

    def measured(video: Workload) -> Forward:
        runs = denoise_runs(sizes, video, dtype, kernels_of(device, dtype))
        return Forward(flops=runs[0].prompt.forward, peak=denoise_peak(sizes, video, runs, dtype, device))

    found = {video.num_frames: measured(video) for video in (videos[0], videos[-1])}
    spans = [videos]
    while spans:
        span = spans.pop()
        if len(span) < SAMPLES:
            continue
        first, *between, last = span
        middle = len(between) // 2
        count = between[middle].num_frames
        line = polynomial({end.num_frames: found[end.num_frames].peak for end in (first, last)})
        found[count] = measured(between[middle])
        if line(count) != found[count].peak:
            spans += [[first, *between[: middle + 1]], [*between[middle:], last]]
            continue
        flops = polynomial({end: found[end].flops for end in (first.num_frames, count, last.num_frames)})
        for video in between:
            length = video.num_frames
            found[length] = Forward(flops=int(flops(length)), peak=int(line(length)))
    return found


def _flops(sizes: Sizes, workload: Workload) -> int:
    dtype = torch.float32
    return denoise_runs(sizes, workload, dtype, kernels_of("meta", dtype))[0].prompt.forward


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
