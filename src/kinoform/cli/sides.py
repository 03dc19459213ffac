"""The two sides of a comparison: a model and its settings, and what `--compare` sets beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from kinoform.cli.model_options import Chosen
from kinoform.cli.options import solver_named
from kinoform.cli.settings import KINDS
from kinoform.errors import UsageError, nearest

if TYPE_CHECKING:
    from kinoform.evaluation.benchmark import Contender

SETTINGS: Mapping[str, type] = {
    "steps": int,
    "guidance_scale": float,
    "shift": float,
    "solver": str,
    "dtype": str,
    "device": str,
}
"""What may differ between two sides besides the model."""

EXAMPLE = "--compare steps=8,guidance_scale=3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A model and how it makes videos; what is None comes from its recipe."""

    model: str
    recipe: str | None = None
    variant: str | None = None
    device: str
    dtype: str
    steps: int | None
    guidance_scale: float | None
    shift: float | None
    solver: str | None

    def words(self) -> list[str]:
        """The words of the command line that say the same."""
        told = {name: value for name, value in asdict(self).items() if name != "model" and value not in (None, "auto")}
        return [
            self.model,
            *(word for name, value in told.items() for word in (f"--{name.replace('_', '-')}", f"{value}")),
        ]


def beside(first: Side, text: str) -> Side:
    """The side that `text` names: a model, settings of the first model, or both, model first.

    Settings that it does not name are those of `first`. Raises UsageError for settings that are unknown, said
    twice, or of the wrong kind.
    """
    # A comma within brackets belongs to a solver's options.
    start, *rest = [text] if os.path.exists(text) else re.split(r",(?![^()]*\))", text)
    if "=" in start and not os.path.exists(start):
        return replace(first, **_settings([start, *rest]))
    return replace(first, model=start, recipe=None, variant=None, **_settings(rest))


def contenders(first: Side, other: Side | None) -> tuple[Contender, Contender | None]:
    """Both sides, with their models loaded; one that serves both is loaded once. Raises as loading does."""
    from kinoform.evaluation.benchmark import Contender

    pipeline = _chosen(first).load()
    mine = Contender(pipeline=pipeline, changes=_changes(first))
    if other is None:
        return mine, None
    theirs = pipeline if _chosen(other) == _chosen(first) else _chosen(other).load()
    return mine, Contender(pipeline=theirs, changes=_changes(other))


def _settings(pieces: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for piece in pieces:
        name, _, value = (part.strip() for part in piece.partition("="))
        if name not in SETTINGS:
            raise UsageError(
                f"--compare has no setting {name[:60]!r}; {nearest(name[:60], SETTINGS)}", code="unknown_name"
            )
        if name in found:
            raise UsageError(f"--compare says {name} twice; say it once", code="said_twice")
        found[name] = _value(name, value)
    return found


def _value(name: str, text: str) -> object:
    kind = SETTINGS[name]
    try:
        if text:
            return kind(text)
    except ValueError:
        pass
    raise UsageError(
        f"--compare {name} must be {KINDS[kind]}, not {text[:60]!r}; write for example {EXAMPLE}", code="bad_value"
    )


def _chosen(side: Side) -> Chosen:
    return Chosen(
        model=side.model, recipe=side.recipe, variant=side.variant, device=side.device, dtype=side.dtype
    )  # fmt: skip


def _changes(side: Side) -> dict[str, object]:
    return {
        "steps": side.steps, "guidance_scale": side.guidance_scale, "shift": side.shift,
        "solver": solver_named(side.solver),
    }  # fmt: skip
