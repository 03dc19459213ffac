"""The two sides of a comparison: a model and its settings, and what `--compare` sets beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kinoform.cli.option_groups import MachineOptions, ModelOptions, VideoOptions
from kinoform.cli.options import words_of
from kinoform.cli.settings import KINDS, SETTINGS
from kinoform.cli.values import solver_named
from kinoform.errors import UsageError, nearest

if TYPE_CHECKING:
    from kinoform.evaluation.benchmark import Contender

COMPARED = ("steps", "guidance_scale", "shift", "solver", "dtype", "device")
"""The settings that may differ between two sides besides the model."""

EXAMPLE = "--compare steps=8,guidance_scale=3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A model and how it makes videos; what is None comes from its recipe."""

    model: ModelOptions
    made: VideoOptions
    machine: MachineOptions

    def words(self) -> list[str]:
        """The words of the command line that say the same."""
        named = replace(self.model, model=None)
        return [str(self.model.model), *words_of(named), *words_of(self.machine), *words_of(self.made)]

    def setting(self, values: Mapping[str, Any]) -> Side:
        """The same side with other settings."""
        made = {name: value for name, value in values.items() if hasattr(self.made, name)}
        machine = {name: value for name, value in values.items() if hasattr(self.machine, name)}
        return replace(self, made=replace(self.made, **made), machine=replace(self.machine, **machine))


def beside(first: Side, text: str) -> Side:
    """The side that `text` names: a model, settings of the first model, or both, model first.

    Settings that it does not name are those of `first`. Raises UsageError for settings that are unknown, said
    twice, or of the wrong kind.
    """
    # A comma within brackets belongs to a solver's options.
    start, *rest = [text] if os.path.exists(text) else re.split(r",(?![^()]*\))", text)
    if "=" in start and not os.path.exists(start):
        return first.setting(_settings([start, *rest]))
    return replace(first, model=ModelOptions(model=start)).setting(_settings(rest))


def contenders(first: Side, other: Side | None) -> tuple[Contender, Contender | None]:
    """Both sides, with their models loaded; one that serves both is loaded once. Raises as loading does."""
    from kinoform.evaluation.benchmark import Contender

    pipeline = first.model.load(first.machine)
    mine = Contender(pipeline=pipeline, changes=_changes(first))
    if other is None:
        return mine, None
    same = (other.model, other.machine) == (first.model, first.machine)
    theirs = pipeline if same else other.model.load(other.machine)
    return mine, Contender(pipeline=theirs, changes=_changes(other))


def _settings(pieces: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for piece in pieces:
        name, _, value = (part.strip() for part in piece.partition("="))
        if name not in COMPARED:
            raise UsageError(
                f"--compare has no setting {name[:60]!r}; {nearest(name[:60], COMPARED)}", code="unknown_name"
            )
        if name in found:
            raise UsageError(f"--compare says {name} twice; say it once", code="said_twice")
        found[name] = _value(name, value)
    return found


def _value(name: str, text: str) -> object:
    kind, _ = SETTINGS[name]
    try:
        if text:
            return kind(text)
    except ValueError:
        pass
    raise UsageError(
        f"--compare {name} must be {KINDS[kind]}, not {text[:60]!r}; write for example {EXAMPLE}", code="bad_value"
    )


def _changes(side: Side) -> dict[str, object]:
    made = side.made
    return {
        "steps": made.steps,
        "guidance_scale": made.guidance_scale,
        "shift": made.shift,
        "solver": solver_named(made.solver),
    }
