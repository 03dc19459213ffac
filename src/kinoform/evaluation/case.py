"""Tasks, which draw scenes, and cases: each a video to be made of one scene, from a prompt and perhaps from inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8

from kinoform.conditions.inputs import NO_INPUTS, InputField, Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.world.render import render
from kinoform.world.sampling import L1, Difficulty
from kinoform.world.scene import Scene, Story

EVALUATION_SEED = 1_000_003
"""Scenes and noise of the evaluation come from here; trainings use other seeds."""

LARGEST_SEED = 2**31


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One video to be made: it shall show the story of `target`, the scene whose rendering a perfect model makes.

    `kept` are the pixels of `target` that the inputs give; an edit tells them itself. Each of `joint` is right when
    all attributes that it lists are. `former` is a story whose motion the video shall not have. `words` is the prompt
    of a model that takes none of the inputs: it says what they show.
    """

    prompt: str
    seed: int
    target: Scene
    inputs: Inputs = NO_INPUTS
    kept: Bool[np.ndarray, "f h w"] | None = None
    joint: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    former: Story | None = None
    words: str | None = None

    def given(self, takes: Collection[InputField[Any]]) -> Case:
        """Return the case for a model that takes these inputs."""
        inputs = self.inputs.only(takes)
        return replace(self, inputs=inputs, prompt=self.prompt if inputs or self.words is None else self.words)


Draw: TypeAlias = Callable[[np.random.Generator, VideoSize], Mapping[str, Case]]
"""The cases of one scene by name, all of which share its randomness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Scenes from a `stream` of their own, for models that take the inputs in `needs`.

    `level` says what guessing gets right; `pool` names the figure into which those of several tasks are joined.
    Cases of tasks of one `table` stand side by side in it; those of the others have a table each.
    """

    name: str
    stream: int
    draw: Draw = field(repr=False)
    needs: frozenset[InputField[Any]] = frozenset()
    level: Difficulty = L1
    pool: str = ""
    table: str = ""

    def cases(self, number: int, size: VideoSize) -> Mapping[str, Case]:
        """Return the cases of scene `number`, counted from 0: the same on every machine, and no training's."""
        return self.draw(np.random.default_rng([EVALUATION_SEED, self.stream, number]), size)


def seed_from(generator: np.random.Generator) -> int:
    """Draw the seed of a video, below 2**31."""
    return int(generator.integers(LARGEST_SEED))


def rendered(scene: Scene, size: VideoSize) -> UInt8[np.ndarray, "f h w 3"]:
    """Render a scene in this size, 0 to 255."""
    return render(scene, **asdict(size))
