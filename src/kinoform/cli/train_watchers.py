"""Observers of a training that a command began: files of the run, TensorBoard where it is, and trackers by name."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from kinoform.cli import console
from kinoform.errors import UsageError, nearest

if TYPE_CHECKING:
    from kinoform.training.levels import Levels
    from kinoform.training.observe import Observer

TENSORBOARD = "tensorboard"
TRACKERS = (TENSORBOARD, "trackio", "wandb", "none")


def watchers(plan: object, track: str | None, processes: int) -> tuple[Observer, ...]:
    """Return who is told of the steps of a plan; `track` names a tracker, None is TensorBoard where it is installed.

    Raises UsageError for a tracker that is unknown or not installed.
    """
    from kinoform.training.watching import LevelLog, MachineLog, TensorBoard, Tracker

    if track is not None and track not in TRACKERS:
        raise UsageError(f"no tracker {track[:40]!r}; {nearest(track[:40], TRACKERS)}", code="unknown_name")
    installed = find_spec(track or TENSORBOARD) is not None
    if track not in (None, "none") and not installed:
        raise UsageError(f"{track} is not installed; pip install {track}, or leave out --track", code="package_missing")
    files = LevelLog(_asked(plan)), MachineLog(processes)
    if track == "none":
        return files
    if track in (None, TENSORBOARD):
        if not installed:
            console.note("TensorBoard is not installed (pip install tensorboard); kinoform report shows the curves too")
        return (*files, TensorBoard()) if installed else files
    return (*files, Tracker(track))


def _asked(plan: object) -> dict[str, Levels]:
    """Return the levels that a plan means, by the names of the folders in which its experts learn."""
    from kinoform.solvers.by_expert import expert_names
    from kinoform.training.clip_plan import ClipPlan
    from kinoform.training.tuning_stage import TuningSpec, levels_of

    if not isinstance(plan, TuningSpec):
        return {}
    stem, names = "lora" if isinstance(plan, ClipPlan) else "adapter", expert_names(len(plan.recipe.transformers))
    folders = [stem] if len(names) == 1 else [f"{stem}-{name}" for name in names]
    return {folder: levels_of(plan, expert) for expert, folder in enumerate(folders)}
