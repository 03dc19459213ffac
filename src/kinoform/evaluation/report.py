"""The result of a whole evaluation: all levels of one side, or of two that made videos of the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from kinoform.evaluation.paired import Difference, differences
from kinoform.evaluation.skill import Evaluation


@dataclass(frozen=True, kw_only=True)
class Report:
    """`first` has one evaluation per level; `other` has none, or the same levels for what it is compared with."""

    first: tuple[Evaluation, ...]
    other: tuple[Evaluation, ...] = ()

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """The other side less the first."""
        if not self.other:
            return ()
        pairs = zip(self.first, self.other, strict=True)
        return tuple(each for first, other in pairs for each in differences(first, other))

    @property
    def sides(self) -> tuple[tuple[Evaluation, ...], ...]:
        return (self.first, self.other) if self.other else (self.first,)

    @property
    def names(self) -> tuple[str, ...]:
        """One name a side, as `names_of` gives them."""
        return names_of([side[0] for side in self.sides])

    def as_json(self) -> dict[str, object]:
        return {
            **_side(self.first),
            "other": _side(self.other) if self.other else None,
            "differences": [told(each) for each in self.differences] if self.other else None,
        }


@runtime_checkable
class Named(Protocol):
    """What tells sides apart."""

    @property
    def model(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def settings(self) -> dict[str, object]: ...


def names_of(sides: Sequence[Named]) -> tuple[str, ...]:
    """That of each model, and with two sides whatever sets them apart."""
    return tuple(" ".join([side.model, *_apart(side, sides)]) for side in sides)


def told(difference: Difference) -> dict[str, object]:
    """As JSON, which has no NaN."""
    return {**asdict(difference), "difference": difference.difference if difference.trials else None}


def _side(evaluations: Sequence[Evaluation]) -> dict[str, object]:
    """What all levels have in common stands before them."""
    common = ("model", "fingerprint", "settings", "flops")
    levels = [each.as_json() for each in evaluations]
    return {name: levels[0][name] for name in common} | {
        "levels": [{name: value for name, value in level.items() if name not in common} for level in levels]
    }


def _apart(side: Named, sides: Sequence[Named]) -> list[str]:
    """The hash of a model that shares its name with another, and settings that differ."""
    alike = len({each.model for each in sides}) < len({each.fingerprint for each in sides})
    differing = [
        f"{name}={value}" for name, value in side.settings.items() if any(e.settings[name] != value for e in sides)
    ]
    return [side.fingerprint] * alike + differing
