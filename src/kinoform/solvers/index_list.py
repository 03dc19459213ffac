"""LightX2V's list of places for Self-Forcing checkpoints: levels and re-noising look sigmas up by whole timesteps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kinoform.numbers import real, settle
from kinoform.solvers.base import Step
from kinoform.solvers.level_grids import MAX_SHIFT, check_count, check_indices
from kinoform.solvers.levels import TIMESTEPS, check_grid, unipc_levels
from kinoform.solvers.renoise import renoised
from kinoform.solvers.sampler import Run
from kinoform.types import CLEAN, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexList:
    """Levels at places of UniPC's grid of 1000 steps, whose timesteps are truncated and so stand several times there.

    A level has the sigma of the first entry of its timestep: 999, 957, 899 and 702 with 0.9998, 0.957993, 0.899804 and
    0.702407 at shift 5. Source: `timesteps_index` of LightX2V.
    """

    entries: tuple[int, ...] = (0, 179, 358, 679)

    def __post_init__(self) -> None:
        settle(self, entries=check_indices(self.entries))

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        """Raises UsageError unless there are as many steps as entries."""
        check_count(self.entries, steps)
        check_grid(steps, shift)
        grid = unipc_levels(TIMESTEPS, shift)
        return (*(_at(grid, grid[entry].timestep)[0] for entry in self.entries), CLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRenoise:
    """Re-noising to the second entry of the next timestep in UniPC's grid of 1000 steps, where it stands twice.

    So LightX2V looks the sigma up, while the step itself goes by the first entry. `shift` is that of the grid.
    """

    shift: float = 5.0

    def __post_init__(self) -> None:
        settle(self, shift=real("shift", self.shift, 0.01, MAX_SHIFT))

    @property
    def edits(self) -> bool:
        return False

    def check(self, steps: int) -> None:
        """Any number of steps will do."""

    def steps(self, run: Run) -> Iterator[Step]:
        grid = unipc_levels(TIMESTEPS, self.shift)

        def second(level: Level) -> float:
            entries = _at(grid, level.timestep) or [level]
            return entries[min(1, len(entries) - 1)].sigma

        return renoised(run, second)


def _at(grid: tuple[Level, ...], timestep: float) -> list[Level]:
    """The levels of a grid at one timestep, but for the clean end."""
    return [level for level in grid[:-1] if level.timestep == timestep]
