"""The result of a whole evaluation: all cases of one side, or of two that made videos of the same scenes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from kinoform.evaluation.metrics import CaseMetrics, Evaluation
from kinoform.evaluation.paired import Difference, differences


@dataclass(frozen=True, kw_only=True)
class Report:
    """Evaluations of one model, or of two. `other` made videos of the same scenes, with the inputs that it takes."""

    first: Evaluation
    other: Evaluation | None = None

    @cached_property
    def differences(self) -> Mapping[str, Mapping[str, Difference]]:
        """Differences by case and mark, other side less first. Raises UsageError where the videos are not the same."""
        if self.other is None:
            return {}
        pairs = zip(self.first.cases, self.other.cases, strict=True)
        return {mine.name: differences(mine, theirs) for mine, theirs in pairs}

    @property
    def sides(self) -> tuple[Evaluation, ...]:
        return (self.first,) if self.other is None else (self.first, self.other)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each model, and with two sides whatever sets them apart."""
        return tuple(" ".join([side.model, *self._apart(side)]) for side in self.sides)

    def cases(self) -> Iterator[tuple[CaseMetrics, ...]]:
        """Yield each case as every side has it."""
        return zip(*(side.cases for side in self.sides), strict=True)

    def as_json(self) -> dict[str, object]:
        several = [each.as_json() for marks in self.differences.values() for each in marks.values()]
        return {
            **self.first.as_json(),
            "other": None if self.other is None else self.other.as_json(),
            "differences": None if self.other is None else several,
        }

    def _apart(self, side: Evaluation) -> list[str]:
        """The hash of a model that shares its name with another, and settings that differ."""
        alike = len({each.model for each in self.sides}) < len({each.fingerprint for each in self.sides})
        differing = [
            f"{name}={value}"
            for name, value in side.settings.items()
            if any(each.settings[name] != value for each in self.sides)
        ]
        return [side.fingerprint] * alike + differing
