"""Models that draw by rule, so that it is known what an edit must come to, and videos and masks for them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinoform.conditions.standard_inputs import MASK, VIDEO
from kinoform.conditions.video_to_video import StartVideo
from kinoform.errors import Interrupted
from kinoform.pipelines.generate import Callback, Progress
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request
from tests.support.narrowing import some
from tests.support.tiny_recipe import tiny_pipeline

Draw = Callable[[Request], np.ndarray]
STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Pretended(Pipeline):
    """Its videos are a function of the request, which it remembers; its latents say nothing."""

    draw: Draw
    seen: list[Request] = field(default_factory=list)

    def latents(
        self, requests: Sequence[Request], on_progress: Callback, generator: Any = None
    ) -> Iterator[torch.Tensor]:
        for asked in requests:
            self.seen.append(asked)
            for step in range(STEPS):
                if on_progress(Progress(stage="denoise", done=step + 1, total=STEPS)) is False:
                    raise Interrupted("stopped")
            yield torch.zeros(1, 4, 1, 1, 1)

    def frames(self, latents: torch.Tensor, on_progress: Callback) -> np.ndarray:
        return self.draw(self.seen[-1])


def pretended(folder: Path, draw: Draw, **changes: Any) -> Pretended:
    """9 frames of 16x16 at most, from videos; `changes` are fields of the recipe."""
    real = tiny_pipeline(folder, **{"conditioners": (StartVideo(),), "num_frames": 9, **changes})
    return Pretended(**{each.name: getattr(real, each.name) for each in fields(real)}, draw=draw)


def noise(asked: Request) -> np.ndarray:
    """White noise of the seed, whatever is handed over."""
    shape = asked.num_frames, asked.height, asked.width, 3
    return np.random.default_rng(asked.seed).integers(0, 256, shape, dtype=np.uint8)


def copied(asked: Request) -> np.ndarray:
    """The video itself: the model that changes nothing."""
    assert asked.inputs[VIDEO] is not None
    return some(asked.inputs[VIDEO]).frames.copy()


def painted(*colour: int) -> Draw:
    """The video with one colour wherever it may change."""

    def draw(asked: Request) -> np.ndarray:
        frames, mask = copied(asked), asked.inputs[MASK]
        frames[mask.values >= 128 if mask is not None else ...] = colour
        return frames

    return draw


def video(frames: int, height: int, width: int, *, seed: int = 1000) -> np.ndarray:
    """Noise, of which no two pixels need be alike."""
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def spots(frames: int, height: int, width: int, *, seed: int = 0, number: int = 3) -> np.ndarray:
    """A mask with a few white pixels in each frame, at random places; bool."""
    generator, white = np.random.default_rng(seed), np.zeros((frames, height, width), bool)
    for frame in white:
        frame[generator.integers(0, height, number), generator.integers(0, width, number)] = True
    return white


def far(white: np.ndarray) -> np.ndarray:
    """The distance of each pixel of a frame to the nearest white one, the slow way."""
    rows, columns = np.indices(white.shape)
    return np.sqrt(np.min([(rows - row) ** 2 + (columns - column) ** 2 for row, column in np.argwhere(white)], axis=0))
