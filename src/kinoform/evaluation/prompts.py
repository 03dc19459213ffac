"""What is asked for: the same prompts and seeds on every machine, split by what training has shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kinoform.world.caption import caption
from kinoform.world.sampling import L1, L2, L3, Difficulty, sample_scene
from kinoform.world.scene import Scene

EVALUATION_SEED = 1_000_003
"""Scenes and noise of the evaluation come from here; trainings use other seeds."""

LEVELS: Mapping[str, Difficulty] = {"L1": L1, "L2": L2, "L3": L3}
SPLITS = ("seen", "held-out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A prompt, the seed of its video, and a scene that shows what it says; `number` counts from 0 in its split."""

    number: int
    prompt: str
    seed: int
    scene: Scene


def prompts(level: str, split: str, count: int) -> Iterator[Asked]:
    """The first `count` prompts of a split of a level; each is drawn from a stream of its own."""
    stream = len(SPLITS) * list(LEVELS).index(level) + SPLITS.index(split)
    for number in range(count):
        generator = np.random.default_rng([EVALUATION_SEED, stream, number])
        scene = sample_scene(LEVELS[level], generator, held_out=split == "held-out")
        prompt = caption(scene.story, generator)
        yield Asked(number=number, prompt=prompt, seed=int(generator.integers(2**31)), scene=scene)
