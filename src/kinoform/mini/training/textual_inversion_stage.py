"""What comes before a stream of image words is trained: images learn to say what words would.

The base's own embedded rows of "green" and of "star" are what a portrait of a green star shall give. Put behind the
rows of a prompt they are words that the base knows already; what follows only has to fit them in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.references import ReferenceRows
from kinoform.media.types import InputImage
from kinoform.mini.training.dataset import HELD_BACK
from kinoform.mini.training.reference_stage import Read
from kinoform.mini.training.transformer_stage import Frozen
from kinoform.models.context import WordStream
from kinoform.models.dit import DiT
from kinoform.ops.drawing import seeded
from kinoform.ops.flops import count_flops
from kinoform.training.codec_only import CodecAlone
from kinoform.training.loop import finished
from kinoform.training.stage import TrainingSpec, Upkeep
from kinoform.world.dyes import any_colour
from kinoform.world.portrait import portrait
from kinoform.world.sampling import Level, sample_scene


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsConfig:
    """The stream that learns, and the conditioner that makes its rows; portraits as in `ReaderConfig`.

    The share `dyed` of them have any colour at all, which no word tells: a shape is then learnt apart from the colours
    that it is seen in, and is read in others too. Nothing is dyed near to a colour that is held out with its shape.
    """

    stream: WordStream
    rows: ReferenceRows
    video: VideoSize
    level: Level
    dyed: float = 0.5
    batch: int = 64
    seed: int = 5


class Batch(NamedTuple):
    """`told` are 1 where a word is to be said, 0 for the colour of what is dyed."""

    rows: Float[Tensor, "b n w"]
    words: Float[Tensor, "b words d"]
    told: Float[Tensor, "b words"]


class WordsStage:
    """The squared error of a portrait's rows against the base's rows of the words, relative to these; see `Stage`."""

    def __init__(self, config: WordsConfig, base: DiT, frozen: Frozen) -> None:
        self.config, self._base, self._frozen = config, base, frozen
        self._encoders = CodecAlone(frozen.codec)
        with seeded(config.seed):
            self._embedding = config.stream.build(base.spec.dim, base.spec.eps)
        batch = self.batch(0)
        self.samples_per_step = config.batch
        self.flops_per_step = 3.0 * count_flops(lambda: self.loss(batch))

    def modules(self) -> nn.Module:
        return self._embedding

    @torch.no_grad()
    def batch(self, step: int) -> Batch:
        config, generator = self.config, np.random.default_rng([self.config.seed, step])
        height, width = config.video.height, config.video.width
        rows, words, told = [], [], []
        for _ in range(config.batch):
            thing = sample_scene(config.level, generator).things[0]
            dye = any_colour(thing.subject.shape, generator) if generator.random() < config.dyed else None
            image = InputImage(pixels=portrait(thing, generator, height=height, width=width, dye=dye))
            rows.append(config.rows.read((image,), config.video, self._encoders))
            words.append((thing.subject.colour.name, thing.subject.shape.name))
            told.append((float(dye is None), 1.0))
        return Batch(rows=torch.cat(rows), words=self._words(words), told=torch.tensor(told))

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        error = (self._embedding(batch.rows).float() - batch.words).square().mean(-1)
        return (batch.told * error).sum() / batch.told.sum() / batch.words.square().mean()

    def sample(self, step: int, folder: Path) -> None:
        """Nothing to look at."""

    @torch.no_grad()
    def accuracy(self, batch: Batch) -> dict[str, float]:
        """Of the words that are to be said, the share to which what is said is nearest among those of the batch."""
        found = self._embedding(batch.rows).float()
        return {
            name: self._right(found[:, place], batch.words[:, place], batch.told[:, place] > 0)
            for place, name in enumerate(("colour", "shape"))
        }

    def _right(self, found: Float[Tensor, "b d"], words: Float[Tensor, "b d"], told: Bool[Tensor, " b"]) -> float:
        known = words.unique(dim=0)
        nearest = known[torch.cdist(found[told], known).argmin(1)]
        return (nearest == words[told]).all(1).float().mean().item()

    def _words(self, asked: list[tuple[str, str]]) -> Float[Tensor, "b words d"]:
        """Each word by itself, as the transformer's blocks read it."""
        kinds = sorted({word for words in asked for word in words})
        embedded = self._base.context["text"](self._frozen.rows(kinds))[:, 0].float()
        return embedded[torch.tensor([[kinds.index(word) for word in words] for words in asked])]


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsPlan:
    """What learns to say words, and how it is trained. It `stays` so while the rest learns to read them."""

    config: WordsConfig
    training: TrainingSpec
    stays: bool = True

    def train(self, base: DiT, frozen: Frozen, folder: Path, upkeep: Upkeep) -> Read:
        """Train below `folder`, or go on there. Raises what `train` raises."""
        stage = WordsStage(self.config, base, frozen)
        _, report = finished(stage, folder, self.training, replace(upkeep, sample_every=0, compile=False))
        right = stage.accuracy(stage.batch(HELD_BACK))
        return Read(weights=stage.modules().state_dict(), report=report | {"accuracy": right})
