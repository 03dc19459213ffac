"""Training videos straight from the world: each batch is a pure function of a seed and the step."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinoform.models.codec import to_signed
from kinoform.world.render import coverage, render
from kinoform.world.sampling import L1, Difficulty, sample_scene
from kinoform.world.scene import Scene

HELD_BACK = 2_000_000_000
"""Steps from here on are for judging: no training reaches them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Videos:
    """Videos of a `level` of the world, never a held-out combination; sizes in frames and pixels.

    Before step `early_steps` the level is `early`: a curriculum from simple videos to all of them.
    """

    level: Difficulty
    num_frames: int
    height: int
    width: int
    seed: int = 0
    early: Difficulty = L1
    early_steps: int = 0

    def scenes(self, step: int, count: int) -> tuple[list[Scene], np.random.Generator]:
        """The scenes of a step, and the generator that drew them, for captions."""
        generator = np.random.default_rng([self.seed, step])
        level = self.early if step < self.early_steps else self.level
        return [sample_scene(level, generator) for _ in range(count)], generator

    def pixels(self, scenes: list[Scene]) -> Float[Tensor, "b 3 t height width"]:
        """Videos in [-1, 1]."""
        size = {"num_frames": self.num_frames, "height": self.height, "width": self.width}
        return to_signed(np.stack([render(scene, **size) for scene in scenes]))

    def objects(self, scenes: list[Scene]) -> Bool[Tensor, "b 1 t height width"]:
        """Mark the pixels of which an object covers more than half."""
        size = {"num_frames": self.num_frames, "height": self.height, "width": self.width}
        covers = np.stack([coverage(scene, **size).max(axis=0) for scene in scenes])
        return torch.from_numpy(covers > 0.5)[:, None]
