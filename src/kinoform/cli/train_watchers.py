"""Observers of a training that a command began: files of the run, TensorBoard where it is, and trackers by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from kinoform.cli import console
from kinoform.errors import UsageError, nearest

if TYPE_CHECKING:
    from kinoform.cli.option_groups import TrainingOptions
    from kinoform.pipelines.pipeline import Pipeline
    from kinoform.training.clip_plan import ClipPlan
    from kinoform.training.levels import Levels
    from kinoform.training.observe import Observer

TENSORBOARD = "tensorboard"
TRACKERS = (TENSORBOARD, "trackio", "wandb", "none")
CLIPS_SHOWN, OFTEN = 2, 100
"""Clips whose captions are sampled, and steps between samples at least where a training is short."""


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


def sampler(pipeline: Pipeline, plan: ClipPlan, prompts: Sequence[str], asked: TrainingOptions) -> tuple[Observer, ...]:
    """Return what makes sample videos while a LoRA learns: of `prompts`, else of the captions and inputs of clips.

    A short training shows some too. Nobody, with a note, where several processes share it.
    """
    from kinoform.datasets.read import read_sample
    from kinoform.training.sampling import SampleRequest, SampleVideos

    if not asked.sample_every:
        return ()
    if asked.processes > 1:
        console.note("no sample videos are made while several processes train")
        return ()
    clips = plan.clips.clips[:CLIPS_SHOWN] if not prompts else ()
    samples = [(clip.size, read_sample(clip, plan.recipe.conditioners, plan.known)) for clip in clips]
    requests = [SampleRequest(prompt=prompt) for prompt in prompts] + [
        SampleRequest(
            prompt=sample.prompt,
            changes={
                "width": size.width, "height": size.height, "num_frames": size.num_frames, "inputs": sample.inputs
            },
        )
        for size, sample in samples
    ]  # fmt: skip
    often = max(OFTEN, plan.training.schedule.total // 4)
    return (SampleVideos(pipeline, requests, min(asked.sample_every, often)),)
