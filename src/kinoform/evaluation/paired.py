"""Two evaluations of the same prompts and seeds: the differences of their shares, with intervals for paired data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kinoform.errors import UsageError
from kinoform.evaluation.skill import Evaluation
from kinoform.evaluation.verdict import STEADY, Verdict
from kinoform.world.score import NORMAL_95


@runtime_checkable
class Judged(Protocol):
    """A video's trial, whatever was asked for."""

    @property
    def video(self) -> Verdict: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The share of the other side less that of the first, over `trials` prompts that both sides have videos of.

    `only_first` prompts were right on the first side alone, `only_other` on the other alone; `low` and `high` bound
    the difference with 95 % confidence.
    """

    level: str
    split: str
    attribute: str
    trials: int
    only_first: int
    only_other: int
    low: float
    high: float

    @property
    def difference(self) -> float:
        """NaN without trials."""
        return (self.only_other - self.only_first) / self.trials if self.trials else float("nan")

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def differences(first: Evaluation, other: Evaluation) -> tuple[Difference, ...]:
    """For each split every attribute, then binding error and count constancy.

    Raises UsageError unless both evaluations asked for the same videos.
    """
    if first.level != other.level or _asked(first) != _asked(other):
        raise UsageError(
            f"{first.model} and {other.model} were asked for other videos; use the same level and count",
            code="videos_not_paired",
        )
    return tuple(_differences(first, other))


def paired_interval(only_first: int, only_other: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of p_other - p_first for paired proportions (Bonett and Price 2012, adjusted Wald).

    p12 = (f12 + 1) / (n + 2), p21 = (f21 + 1) / (n + 2), f12 and f21 the counts of pairs that are right on one side
    alone; p12 - p21 +- z sqrt((p12 + p21 - (p12 - p21)^2) / (n + 2)), z the normal 97.5 % point, cut to -1 .. 1.

    Raises UsageError for negative counts, or more such pairs than trials.
    """
    if min(only_first, only_other) < 0 or only_first + only_other > trials:
        raise UsageError(
            f"{only_first} and {only_other} of {trials} pairs cannot be; count again", code="value_out_of_range"
        )
    p12, p21 = (only_other + 1) / (trials + 2), (only_first + 1) / (trials + 2)
    middle = p12 - p21
    half = NORMAL_95 * math.sqrt((p12 + p21 - middle**2) / (trials + 2))
    return max(-1.0, middle - half), min(1.0, middle + half)


def _asked(evaluation: Evaluation) -> list[tuple[str, str, int]]:
    return [(split.split, video.prompt, video.seed) for split in evaluation.splits for video in split.videos]


def _differences(first: Evaluation, other: Evaluation) -> Iterator[Difference]:
    for mine, theirs in zip(first.splits, other.splits, strict=True):
        for name in (*mine.skill, *STEADY):
            yield difference(first.level, mine.split, name, mine.videos, theirs.videos)


def difference(level: str, split: str, name: str, first: Sequence[Judged], other: Sequence[Judged]) -> Difference:
    """Of one mark, over the videos that have it on both sides."""
    pairs = [
        (mine.video.marks[name], theirs.video.marks[name])
        for mine, theirs in zip(first, other, strict=True)
        if name in mine.video.marks and name in theirs.video.marks
    ]
    only_first, only_other = pairs.count((True, False)), pairs.count((False, True))
    low, high = paired_interval(only_first, only_other, len(pairs))
    return Difference(
        level=level, split=split, attribute=name, trials=len(pairs),
        only_first=only_first, only_other=only_other, low=low, high=high,
    )  # fmt: skip
