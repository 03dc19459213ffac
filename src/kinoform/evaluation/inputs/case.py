"""What is asked of a model that reads inputs: tasks, which draw scenes, and cases, each a video to be made of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8

from kinoform.conditions.inputs import NO_INPUTS, InputField, Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.evaluation.prompts import EVALUATION_SEED
from kinoform.world.render import render
from kinoform.world.sampling import L1, Difficulty
from kinoform.world.scene import Scene, Story

LARGEST_SEED = 2**31


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One video to be made: it shall show the story of `target`, the scene whose rendering a perfect model makes.

    `kept` are the pixels of `target` that the inputs give; an edit tells them itself. Each of `joint` is right when
    all attributes that it lists are. `former` is a story whose motion the video shall not have.
    """

    prompt: str
    seed: int
    target: Scene
    inputs: Inputs = NO_INPUTS
    kept: Bool[np.ndarray, "f h w"] | None = None
    joint: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    former: Story | None = None


Draw: TypeAlias = Callable[[np.random.Generator, VideoSize], Mapping[str, Case]]
"""The cases of one scene by name, all of which share its randomness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Scenes from a `stream` of their own, for models that take the inputs in `needs`.

    `level` says what guessing gets right; `pool` names the figure into which those of several tasks are joined.
    """

    name: str
    needs: frozenset[InputField[Any]]
    stream: int
    draw: Draw = field(repr=False)
    level: Difficulty = L1
    pool: str = ""

    def cases(self, number: int, size: VideoSize) -> Mapping[str, Case]:
        """The cases of scene `number`, counted from 0: the same on every machine, and no training's."""
        return self.draw(np.random.default_rng([EVALUATION_SEED, self.stream, number]), size)


def seed_from(generator: np.random.Generator) -> int:
    return int(generator.integers(LARGEST_SEED))


def rendered(scene: Scene, size: VideoSize) -> UInt8[np.ndarray, "f h w 3"]:
    return render(scene, **asdict(size))
