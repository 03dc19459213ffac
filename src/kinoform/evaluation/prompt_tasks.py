"""Prompts alone: three levels of difficulty, each split by what training has shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from kinoform.conditions.protocols import VideoSize
from kinoform.errors import UsageError, nearest
from kinoform.evaluation.case import Case, Task, seed_from
from kinoform.world.caption import caption
from kinoform.world.sampling import L1, L2, L3, Difficulty, sample_scene

LEVELS: Mapping[str, Difficulty] = {"L1": L1, "L2": L2, "L3": L3}
SPLITS = ("seen", "held-out")


def prompt_tasks(levels: Sequence[str] = tuple(LEVELS)) -> tuple[Task, ...]:
    """Return the tasks of some levels, two each. Raises UsageError for a level that there is not."""
    for level in levels:
        if level not in LEVELS:
            raise UsageError(f"no level {level[:60]!r}; {nearest(level[:60], LEVELS)}", code="unknown_name")
    return tuple(_task(level, split) for level in levels for split in SPLITS)


def _task(level: str, split: str) -> Task:
    name = f"{level} {split}"
    return Task(
        name=name,
        stream=len(SPLITS) * list(LEVELS).index(level) + SPLITS.index(split),
        draw=partial(_prompted, name, LEVELS[level], split == "held-out"),
        level=LEVELS[level],
        table=level,
    )


def _prompted(
    name: str, level: Difficulty, held_out: bool, generator: np.random.Generator, size: VideoSize
) -> Mapping[str, Case]:
    scene = sample_scene(level, generator, held_out=held_out)
    prompt = caption(scene.story, generator)
    return {name: Case(prompt=prompt, seed=seed_from(generator), target=scene)}
