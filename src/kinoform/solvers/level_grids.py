"""Grids of levels beside the solvers' own: lists that distilled models were trained on, and even numbers down to 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeAlias, cast, runtime_checkable

import numpy as np

from kinoform.errors import UsageError
from kinoform.numbers import real, settle, whole
from kinoform.solvers.levels import TIMESTEPS, check_grid, level_at, shifted
from kinoform.types import CLEAN, Level

MAX_SHIFT = 1000.0

Timesteps: TypeAlias = tuple[int | float, ...]
"""Falling timesteps in (0, 1000], those that are whole as ints."""


@runtime_checkable
class LevelGrid(Protocol):
    """Noise levels of a run: a frozen value. Every solver is one, with its own grid."""

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        """The steps + 1 levels, the last one CLEAN. Raises UsageError for a number of steps that it does not have."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Warped:
    """S(entry / 1000) of a list, timesteps untruncated: 1000, 937.5, 833.33 and 625 at shift 5.

    Lists of this kind stand unbent in the files of LightX2V (`step_distill`) and Self-Forcing, which bend them by the
    shift of the recipe.
    """

    entries: Timesteps = (1000, 750, 500, 250)

    def __post_init__(self) -> None:
        settle(self, entries=check_entries(self.entries))

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        """Raises UsageError unless there are as many steps as entries."""
        check_count(self.entries, steps)
        check_grid(steps, shift)
        bent = (shifted(entry / TIMESTEPS, shift) for entry in self.entries)
        return (*(level_at(sigma, exact_timestep=True) for sigma in bent), CLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The first timesteps of a list, not bent by the shift, with sigma = timestep / 1000.

    The entries of CausVid by default, as Wan2GP has them.
    """

    entries: Timesteps = (1000, 934, 862, 756, 603, 410, 250, 140, 74)

    def __post_init__(self) -> None:
        settle(self, entries=check_entries(self.entries))

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        """Raises UsageError for more steps than entries."""
        check_count(self.entries, steps, fewer=True)
        check_grid(steps, shift)
        return (*(level_at(entry / TIMESTEPS, exact_timestep=True) for entry in self.entries[:steps]), CLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """Timesteps of a list as they are, and the sigma of the nearest entry of the table S(k / 1000), k = 1 .. 1000.

    FastWan: the network is told 1000, 757 and 522, the update goes by 1, 0.756757 and 0.521739 (`DmdDenoisingStage` of
    FastVideo). The entries are rounded values of a table bent already, and are not bent again.
    """

    entries: Timesteps = (1000, 757, 522)

    def __post_init__(self) -> None:
        settle(self, entries=check_entries(self.entries))

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        """Raises UsageError unless there are as many steps as entries."""
        check_count(self.entries, steps)
        check_grid(steps, shift)
        told = map(float, self.entries)
        return (*(Level(sigma=nearest_sigma(entry, shift), timestep=entry) for entry in told), CLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvenToOne:
    """S over even points from 1000 down to 1, both included: the last step begins at a timestep of a few.

    Wan2GP runs Euler on it, also for its phases.
    """

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        check_grid(steps, shift)
        points = np.linspace(1.0, 1 / TIMESTEPS, steps).tolist()
        return (*(level_at(shifted(point, shift), exact_timestep=True) for point in points), CLEAN)


def nearest_sigma(timestep: float, shift: float) -> float:
    """Return the sigma nearest to a timestep in the table S(k / 1000), k = 1 .. 1000, of float32."""
    table = shifted_table(np.arange(1, TIMESTEPS + 1) / TIMESTEPS, shift)
    return float(table[np.abs(table * np.float32(TIMESTEPS) - np.float32(timestep)).argmin()])


def shifted_table(points: np.ndarray, shift: float) -> np.ndarray:
    """Return S of every point, in float32."""
    return (shift * points / (1 + (shift - 1) * points)).astype(np.float32)


def check_entries(entries: object) -> Timesteps:
    """Return timesteps as plain numbers. Raises UsageError unless they fall, all in (0, 1000]."""
    if not isinstance(entries, tuple | list) or not entries:
        raise UsageError(f"entries must be timesteps such as (1000, 750, 500, 250), not {entries!r}", code="wrong_type")
    given = cast("Sequence[object]", entries)
    values = tuple(real("an entry", value, 0.0, float(TIMESTEPS)) for value in given)
    if not all(low < high for high, low in pairwise((*values, 0.0))):
        raise UsageError(f"entries are {_listed(values)}; they must fall, and stay above 0", code="levels_not_falling")
    return tuple(int(value) if value.is_integer() else value for value in values)


def check_indices(entries: object) -> tuple[int, ...]:
    """Return places in a list of 1000 as plain numbers. Raises UsageError unless they rise from 0 on."""
    if not isinstance(entries, tuple | list) or not entries:
        raise UsageError(f"entries must be places such as (0, 179, 358, 679), not {entries!r}", code="wrong_type")
    values = tuple(whole("an entry", value, 0, TIMESTEPS - 1) for value in cast("Sequence[object]", entries))
    if not all(first < second for first, second in pairwise(values)):
        raise UsageError(f"entries are {_listed(values)}; they must rise", code="levels_not_falling")
    return values


def check_count(entries: Sequence[object], steps: int, *, fewer: bool = False) -> None:
    """Raise UsageError unless a list has so many steps, or, with `fewer`, at least so many."""
    if steps != len(entries) and not (fewer and steps < len(entries)):
        raise UsageError(
            f"these levels are a list of {len(entries)} steps ({_listed(entries)}), and {steps} are asked for; take "
            f"{len(entries)} steps{' or fewer' if fewer else ''}, or other levels",
            code="steps_not_taken",
        )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
