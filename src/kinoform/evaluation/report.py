"""The result of a whole evaluation: all levels of one side, or of two that made films of the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

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
    def names(self) -> tuple[str, ...]:
        """One name a side: that of the model, and with two sides whatever sets them apart."""
        sides = [side[0] for side in (self.first, self.other) if side]
        return tuple(" ".join([side.model, *_apart(side, sides)]) for side in sides)

    def as_json(self) -> dict[str, object]:
        told = [{**asdict(each), "difference": each.difference if each.trials else None} for each in self.differences]
        return {
            **_side(self.first),
            "other": _side(self.other) if self.other else None,
            "differences": told if self.other else None,
        }


def _side(evaluations: Sequence[Evaluation]) -> dict[str, object]:
    """What all levels have in common stands before them."""
    common = ("model", "fingerprint", "settings")
    levels = [each.as_json() for each in evaluations]
    return {name: levels[0][name] for name in common} | {
        "levels": [{name: value for name, value in level.items() if name not in common} for level in levels]
    }


def _apart(side: Evaluation, sides: Sequence[Evaluation]) -> list[str]:
    """The hash of a model that shares its name with another, and settings that differ."""
    alike = len({each.model for each in sides}) < len({each.fingerprint for each in sides})
    told = [f"{name}={value}" for name, value in side.settings.items() if any(e.settings[name] != value for e in sides)]
    return [side.fingerprint] * alike + told
