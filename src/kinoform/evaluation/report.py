"""The result of a whole evaluation: all cases of one side, or of several that made videos of the same scenes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from kinoform.errors import UsageError
from kinoform.evaluation.metrics import CaseMetrics, Evaluation
from kinoform.world.score import NORMAL_95


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The share of the other side less that of the first, over `trials` prompts that both sides have videos of.

    `only_first` prompts were right on the first side alone, `only_other` on the other alone; `low` and `high` bound
    the difference with 95 % confidence.
    """

    case: str
    mark: str
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

    def as_json(self) -> dict[str, object]:
        """Return plain values; JSON has no NaN."""
        return {**asdict(self), "difference": self.difference if self.trials else None}


@dataclass(frozen=True, kw_only=True)
class Report:
    """Evaluations of one model, or of several. `others` made videos of the same scenes, with the inputs they take."""

    first: Evaluation
    others: tuple[Evaluation, ...] = ()

    @cached_property
    def differences(self) -> tuple[Mapping[str, Mapping[str, Difference]], ...]:
        """Differences by case and mark for each other side, that side less the first.

        Raises UsageError where the videos are not the same.
        """
        return tuple(
            {mine.name: differences(mine, theirs) for mine, theirs in zip(self.first.cases, other.cases, strict=True)}
            for other in self.others
        )

    @property
    def sides(self) -> tuple[Evaluation, ...]:
        return (self.first, *self.others)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each model, and with several sides whatever sets them apart."""
        return tuple(" ".join([side.model, *self._apart(side)]) for side in self.sides)

    def cases(self) -> Iterator[tuple[CaseMetrics, ...]]:
        """Yield each case as every side has it."""
        return zip(*(side.cases for side in self.sides), strict=True)

    def as_json(self) -> dict[str, object]:
        others = [
            {
                **other.as_json(),
                "differences": [item.as_json() for marks in cases.values() for item in marks.values()],
            }
            for other, cases in zip(self.others, self.differences, strict=True)
        ]
        return {**self.first.as_json(), "others": others}

    def _apart(self, side: Evaluation) -> list[str]:
        """Return the hash of a model that shares its name with another, and settings that differ."""
        alike = len({item.model for item in self.sides}) < len({item.fingerprint for item in self.sides})
        differing = [
            f"{name}={value}"
            for name, value in side.options.items()
            if any(item.options[name] != value for item in self.sides)
        ]
        return [side.fingerprint] * alike + differing


def differences(first: CaseMetrics, other: CaseMetrics) -> dict[str, Difference]:
    """Compare every mark of a case. Raises UsageError unless both sides were asked for the same videos."""
    if _requested(first) != _requested(other):
        raise UsageError(
            f"{first.name} was asked for other videos on each side; use the same tasks and count",
            code="videos_not_paired",
        )
    return {mark: _difference(mark, first, other) for mark in first.skill}


def paired_interval(only_first: int, only_other: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of p_other - p_first for paired proportions (Bonett and Price 2012, adjusted Wald).

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


def _requested(case: CaseMetrics) -> list[tuple[str, int]]:
    return [(video.prompt, video.seed) for video in case.videos]


def _difference(mark: str, first: CaseMetrics, other: CaseMetrics) -> Difference:
    """Compare one mark, over the videos that have it on both sides."""
    pairs = [
        (mine.video.marks[mark], theirs.video.marks[mark])
        for mine, theirs in zip(first.videos, other.videos, strict=True)
        if mark in mine.video.marks and mark in theirs.video.marks
    ]
    only_first, only_other = pairs.count((True, False)), pairs.count((False, True))
    low, high = paired_interval(only_first, only_other, len(pairs))
    return Difference(
        case=first.name, mark=mark, trials=len(pairs),
        only_first=only_first, only_other=only_other, low=low, high=high,
    )  # fmt: skip
