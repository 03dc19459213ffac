"""What comes before a reference stream is trained: its reader learns what images show, by answering questions.

As with the text encoder: learnt together with a transformer, an image's colour is found, its shape is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from kinoform.conditions.protocols import Encoders, VideoSize
from kinoform.conditions.references import ReferenceRows
from kinoform.media.types import InputImage
from kinoform.mini.training.attributes import QUESTIONS, Answers
from kinoform.mini.training.dataset import HELD_BACK
from kinoform.mini.training.transformer_stage import Frozen
from kinoform.models.codec import Codec
from kinoform.models.context import ReferenceStream
from kinoform.models.dit import DiT
from kinoform.ops.drawing import seeded
from kinoform.ops.flops import count_flops
from kinoform.training.codec_only import CodecAlone
from kinoform.training.loop import finished
from kinoform.training.stage import TrainingSpec, Upkeep
from kinoform.world.dyes import any_colour
from kinoform.world.portrait import portrait
from kinoform.world.sampling import Level, sample_scene

ASKED = tuple(question for question in QUESTIONS if question.name in ("first colour", "first shape"))
COLOUR = [question.name for question in ASKED].index("first colour")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderConfig:
    """The stream whose reader learns, of a transformer `dim` wide, and the conditioner that makes its rows.

    Portraits are of the first object of scenes of `level`, in the size of the video. The share `dyed` of them have a
    colour that no word tells, of which nothing is asked.
    """

    stream: ReferenceStream
    rows: ReferenceRows
    dim: int
    eps: float
    video: VideoSize
    level: Level
    dyed: float = 0.0
    batch: int = 64
    seed: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderPlan:
    """What is read, and how it is trained; whether it `stays` so while the rest learns."""

    config: ReaderConfig
    training: TrainingSpec
    stays: bool = False

    def train(self, base: DiT, frozen: Frozen, folder: Path, upkeep: Upkeep) -> Read:
        """As `train_reader`; nothing of the base is asked but its codec."""
        return train_reader(self, frozen.codec, folder, upkeep)


class Batch(NamedTuple):
    """Answers are places among the choices of each question; -1 is not asked."""

    rows: Float[Tensor, "b n w"]
    answers: Int[Tensor, "b questions"]


class Reading(nn.Module):
    """The stream's embedding, which has the reader, and for this stage only what answers off its rows."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.embedding = config.stream.build(config.dim, config.eps)
        self.answers = Answers(config.dim, ASKED)

    def forward(self, rows: Float[Tensor, "b n w"]) -> list[Float[Tensor, "b choices"]]:
        return self.answers(self.embedding(rows))


class ReaderStage:
    """Cross-entropy over the colour and the shape of what a portrait shows; see `Stage`."""

    def __init__(self, config: ReaderConfig, encoders: Encoders) -> None:
        self.config, self._encoders = config, encoders
        with seeded(config.seed):
            self._reading = Reading(config)
        rows = self.batch(0).rows
        self.samples_per_step = config.batch
        self.flops_per_step = 3.0 * count_flops(lambda: self._reading(rows))

    def modules(self) -> Reading:
        return self._reading

    def batch(self, step: int) -> Batch:
        config, generator = self.config, np.random.default_rng([self.config.seed, step])
        scenes = [sample_scene(config.level, generator) for _ in range(config.batch)]
        dyed = generator.random(config.batch) < config.dyed if config.dyed else np.zeros(config.batch, dtype=bool)
        height, width = config.video.height, config.video.width
        rows = []
        for scene, is_dyed in zip(scenes, dyed, strict=True):
            thing = scene.things[0]
            dye = any_colour(thing.subject.shape, generator) if is_dyed else None
            image = InputImage(pixels=portrait(thing, generator, height=height, width=width, dye=dye))
            rows.append(config.rows.read((image,), config.video, self._encoders))
        answers = torch.tensor([[question.place(scene.story) for question in ASKED] for scene in scenes])
        answers[torch.from_numpy(dyed), COLOUR] = -1
        return Batch(rows=torch.cat(rows), answers=answers)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        found = self._reading(batch.rows)
        wrong = [
            F.cross_entropy(row, batch.answers[:, n], ignore_index=-1, reduction="sum") for n, row in enumerate(found)
        ]
        return torch.stack(wrong).sum() / len(batch.answers)

    def sample(self, step: int, folder: Path) -> None:
        """Nothing to look at."""

    @torch.no_grad()
    def accuracy(self, batch: Batch) -> dict[str, float]:
        """The share of right answers to each question, among those that are asked."""
        found, asked = self._reading(batch.rows), batch.answers >= 0
        return {
            question.name: (row.argmax(1) == batch.answers[:, n])[asked[:, n]].float().mean().item()
            for n, (question, row) in enumerate(zip(ASKED, found, strict=True))
        }


@dataclass(frozen=True, kw_only=True)
class Read:
    """Weights of a stream's embedding that was trained by itself; and how far its training went."""

    weights: dict[str, Tensor]
    report: dict[str, object]


def train_reader(plan: ReaderPlan, codec: Codec, folder: Path, upkeep: Upkeep) -> Read:
    """Train below `folder`, or go on there. Raises what `train` raises."""
    stage = ReaderStage(plan.config, CodecAlone(codec))
    # The embedding is used as it is, and would stay compiled.
    _, report = finished(stage, folder, plan.training, replace(upkeep, sample_every=0, compile=False))
    right = stage.accuracy(stage.batch(HELD_BACK))
    return Read(weights=stage.modules().embedding.state_dict(), report=report | {"accuracy": right})
