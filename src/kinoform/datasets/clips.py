"""Clips of a dataset: which frames of each item are learnt, in which size."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from kinoform.conditions.protocols import Units, VideoSize
from kinoform.datasets.buckets import Buckets, ClipLengths
from kinoform.datasets.item import FIRST, FRAME_ROLES, LAST, Dataset, DatasetItem, some
from kinoform.datasets.survey import Survey
from kinoform.errors import UsageError

MAX_BAD = 0.1
"""Share of the items that may be unreadable before a training is refused."""


@runtime_checkable
class ClipRule(Protocol):
    """Choice of the clips of one video, by value."""

    def starts(self, frames: int, length: int, generator: np.random.Generator) -> list[int]:
        """Return the first frames of clips of `length` frames in a video of `frames`, at least as many, in order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadClip:
    """The first frames."""

    def starts(self, frames: int, length: int, generator: np.random.Generator) -> list[int]:
        """See `ClipRule`."""
        return [0]


@dataclass(frozen=True, slots=True, kw_only=True)
class MiddleClip:
    """The frames in the middle."""

    def starts(self, frames: int, length: int, generator: np.random.Generator) -> list[int]:
        """See `ClipRule`."""
        return [(frames - length) // 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomClips:
    """Clips anywhere, `count` at most, drawn once: they stay the same throughout a training, and can be cached."""

    count: int = 4

    def starts(self, frames: int, length: int, generator: np.random.Generator) -> list[int]:
        """See `ClipRule`."""
        places = frames - length + 1
        return sorted(generator.choice(places, size=min(self.count, places), replace=False).tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingClips:
    """A clip every `stride` frames, as long as they fit."""

    stride: int = 8

    def starts(self, frames: int, length: int, generator: np.random.Generator) -> list[int]:
        """See `ClipRule`."""
        return list(range(0, frames - length + 1, self.stride))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadClips:
    """Clips at equal distances from the first frames to the last, `count` at most."""

    count: int = 4

    def starts(self, frames: int, length: int, generator: np.random.Generator) -> list[int]:
        """See `ClipRule`."""
        return sorted({round(start) for start in np.linspace(0, frames - length, self.count).tolist()})


@dataclass(frozen=True, slots=True, kw_only=True)
class AllClips:
    """Clips one behind the other; the last one ends with the video, and may share frames with the one before."""

    def starts(self, frames: int, length: int, generator: np.random.Generator) -> list[int]:
        """See `ClipRule`."""
        last = frames - length
        return [*range(0, last, length), last]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Frames of an item from `start` on, in the size in which they are learnt; `hashes` are those of its files.

    `own` are frames (0, -1) that the clip shows as images itself, since those of its item belong to the whole video.
    Without what its item is given in the roles of `lost`, it is a variant of the clip, with the same target.
    """

    item: DatasetItem
    start: int
    size: VideoSize
    fps: float
    hashes: tuple[str, ...]
    own: tuple[int, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return what messages call it."""
        return f"{self.item.name} from frame {self.start}" if self.start else self.item.name

    @property
    def key(self) -> str:
        """Return a name for its pixels and inputs, 32 hexadecimal digits; the caption is no part of it."""
        said = tuple(item for item in self.item.own if not isinstance(item[1], tuple))
        told: tuple[object, ...] = (
            self.hashes,
            tuple(self.item.files),
            self.start,
            self.size,
            self.fps,
            self.own,
            said,
        )
        told = (*told, self.lost) if self.lost else told
        return hashlib.sha256(repr(told).encode()).hexdigest()[:32]

    def roles(self, known: Collection[int] = ()) -> tuple[str, ...]:
        """Return the roles of all that it is given, where `known` frames are its own unless its item has images."""
        shown = (FRAME_ROLES[number] for number in known if number in FRAME_ROLES)
        return tuple(dict.fromkeys((*self.item.roles, *shown)))

    def without(self, roles: Collection[str], known: Collection[int] = ()) -> Clip:
        """Return the variant without what it is given in these roles: the clip itself where it has none of them.

        A mask goes with its source.
        """
        lost = {*roles, "mask"} if "source" in roles else set(roles)
        return replace(self, lost=tuple(role for role in self.roles(known) if role in lost))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipList:
    """Clips of a dataset in order, and in sentences what was skipped or taken otherwise."""

    clips: tuple[Clip, ...]
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Return a name for clips and captions together, 16 hexadecimal digits."""
        told = [(clip.key, clip.item.caption, clip.item.repeats) for clip in self.clips]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    @property
    def buckets(self) -> dict[VideoSize, int]:
        """Count the clips of each size."""
        return dict(Counter(clip.size for clip in self.clips))


def choose_clips(
    dataset: Dataset,
    surveys: Sequence[Survey | UsageError],
    *,
    rule: ClipRule,
    lengths: ClipLengths,
    buckets: Sequence[Buckets],
    units: Units,
    fps: float,
    seed: int,
) -> ClipList:
    """Choose clips, of each item in the `lengths` that it fills and a size of each of the `buckets`.

    An image is a clip of one frame. `surveys` tell each item's size and frames at `fps`, or what is wrong with it.
    Raises UsageError when too many items cannot be read, for videos that are shorter than every length, for the same
    file twice, and for a length that is not 1 + n * the codec's stride in time.
    """
    _check_lengths(lengths.frames, units)
    notes = _bad_items(dataset, surveys)
    readable = [
        (item, survey) for item, survey in zip(dataset.items, surveys, strict=True) if isinstance(survey, Survey)
    ]
    _check_short(readable, lengths.frames)
    notes += _twice(readable)
    notes += _enlarged(readable, buckets)
    clips: list[Clip] = []
    trimmed: list[int] = []
    for item, survey in readable:
        sides = dict.fromkeys(group.of(survey.height, survey.width) for group in buckets)
        starts, longest = list[int](), 0
        for longest in (1,) if survey.still else lengths.of(survey.num_frames):
            starts = rule.starts(survey.num_frames, longest, _generator(seed, survey))
            clips += [
                Clip(
                    item=item, start=start, size=VideoSize(num_frames=longest, height=height, width=width), fps=fps,
                    hashes=survey.hashes, own=_own(item, start, survey.num_frames - longest),
                )
                for height, width in sides
                for start in starts
            ]  # fmt: skip
        trimmed += [survey.num_frames - longest] if len(starts) == 1 and survey.num_frames > longest else []
    if own := sum(bool(clip.own) for clip in clips):
        notes.append(
            f"{own} clips do not begin or end where their videos do: frames of their own stand for the images first "
            "and last of these videos"
        )
    if trimmed:
        notes.append(f"of {len(trimmed)} videos up to {max(trimmed)} frames are not learnt; --clips takes more of them")
    resampled = {survey.fps for _, survey in readable if survey.fps is not None and abs(survey.fps - fps) > 0.01}
    if resampled:
        rates = ", ".join(f"{rate:g}" for rate in sorted(resampled)[:5])
        notes.append(f"videos at {rates} frames per second are taken at {fps:g}, the rate of the model")
    return ClipList(clips=tuple(clips), notes=(*dataset.notes, *notes))


def _check_lengths(lengths: Iterable[int], units: Units) -> None:
    stride = units.stride[0]
    for length in lengths:
        if length < 1 or (length - 1) % stride:
            below = max(1, length - (length - 1) % stride)
            raise UsageError(
                f"clips of {length} frames cannot be encoded: give 1 + {stride} n, such as {below} or {below + stride}",
                code="frames_not_legal",
            )


def _bad_items(dataset: Dataset, surveys: Sequence[Survey | UsageError]) -> list[str]:
    bad = [
        (item.name, fault) for item, fault in zip(dataset.items, surveys, strict=True) if isinstance(fault, UsageError)
    ]
    if len(bad) > MAX_BAD * len(dataset.items):
        more = f"; also {some([name for name, _ in bad[1:]])}" if len(bad) > 1 else ""
        raise UsageError(
            f"{len(bad)} of {len(dataset.items)} items of {dataset.path} cannot be read: {bad[0][1]}{more}",
            code="dataset_damaged",
        )
    return [f"{name} is left out: {fault}" for name, fault in bad]


def _check_short(readable: Iterable[tuple[DatasetItem, Survey]], lengths: Sequence[int]) -> None:
    short = [
        (survey.num_frames, item.name)
        for item, survey in readable
        if not survey.still and survey.num_frames < min(lengths)
    ]
    if short:
        least, name = min(short)
        raise UsageError(
            f"{len(short)} videos have fewer frames than a clip of {min(lengths)}: {name} has {least} at the model's "
            "rate; give --clip-frames a smaller number beside it, or take these videos out",
            code="clips_too_short",
        )


def _twice(readable: Iterable[tuple[DatasetItem, Survey]]) -> list[str]:
    """Name items of the same bytes; refuse a source, or another file of an item, that is its target."""
    seen: dict[tuple[str, ...], str] = {}
    twice: list[str] = []
    for item, survey in readable:
        roles = [role for role, paths in item.files.items() for _ in paths]
        for role, digest in zip(roles[1:], survey.hashes[1:], strict=False):
            if digest == survey.hashes[0]:
                raise UsageError(
                    f"the {role} and the target of {item.name} are the same file: copying is all that could be learnt",
                    code="sample_unchanged",
                )
        first = seen.setdefault(survey.hashes, item.name)
        if first is not item.name:
            twice.append(f"{item.name} (as {first})")
    return [f"of the same bytes, and counted twice: {some(twice)}"] if twice else []


def _enlarged(readable: Iterable[tuple[DatasetItem, Survey]], buckets: Sequence[Buckets]) -> list[str]:
    """Name items that are smaller than the size in which they are learnt."""
    scales: dict[str, float] = {}
    for item, survey in readable:
        sides = (group.of(survey.height, survey.width) for group in buckets)
        scales[item.name] = max(max(height / survey.height, width / survey.width) for height, width in sides)
    small = [name for name, scale in scales.items() if scale > 1]
    if not small:
        return []
    return [f"{len(small)} items are enlarged, up to {max(scales.values()):.2g} times: {some(small)}"]


def _own(item: DatasetItem, start: int, last: int) -> tuple[int, ...]:
    """Return the frames of a clip for which an image of its whole video cannot stand."""
    first = (FIRST,) if item.first is not None and start else ()
    return first + ((LAST,) if item.last is not None and start != last else ())


def _generator(seed: int, survey: Survey) -> np.random.Generator:
    """Return a generator for an item: by its contents, so that other items do not change what it draws."""
    return np.random.default_rng([seed, *hashlib.sha256(survey.hashes[0].encode()).digest()])
