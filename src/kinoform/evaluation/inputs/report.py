"""How well one model follows its inputs, or two that made videos of the same scenes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from kinoform.evaluation.inputs.skill import CaseSkill, InputsEvaluation
from kinoform.evaluation.paired import Difference, difference
from kinoform.evaluation.report import names_of, told

LEVEL, SPLIT = "L1", "held-out"
"""Of all scenes."""


@dataclass(frozen=True, kw_only=True)
class InputsReport:
    """`other` has made videos of the same scenes, with those of the inputs that it takes."""

    first: InputsEvaluation
    other: InputsEvaluation | None = None

    @cached_property
    def differences(self) -> Mapping[str, tuple[Difference, ...]]:
        """By case, the other side less the first, of each mark."""
        if self.other is None:
            return {}
        pairs = zip(self.first.cases, self.other.cases, strict=True)
        return {mine.name: tuple(_differences(mine, theirs)) for mine, theirs in pairs}

    @property
    def sides(self) -> tuple[InputsEvaluation, ...]:
        return (self.first,) if self.other is None else (self.first, self.other)

    @property
    def names(self) -> tuple[str, ...]:
        return names_of(self.sides)

    def as_json(self) -> dict[str, object]:
        differences = [{"case": name} | told(each) for name, several in self.differences.items() for each in several]
        return {
            **self.first.as_json(),
            "other": None if self.other is None else self.other.as_json(),
            "differences": None if self.other is None else differences,
        }


def _differences(mine: CaseSkill, theirs: CaseSkill) -> Iterator[Difference]:
    for mark in mine.skill:
        yield difference(LEVEL, SPLIT, mark, mine.videos, theirs.videos)
