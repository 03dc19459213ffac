"""Stages for the encoder of reference images, trained by itself before the model that reads it.

Trained together with a transformer, it learns the colour of an image's object but not its shape. Two stages have the
same images and config: `AttributeStage` learns to name colour and shape, `TextualInversionStage` to give the rows that
the words for them have in a finished model (after Gal et al. 2022, "An Image is Worth One Word").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.references import ContextReferences
from kinoform.media.types import InputImage
from kinoform.mini.training.attributes import ATTRIBUTES, AttributeHeads
from kinoform.mini.training.dataset import HELD_BACK
from kinoform.models.context import PseudoWordContext, ReferenceContext
from kinoform.models.dit import DiT
from kinoform.ops.drawing import seeded
from kinoform.training.frozen import CodecOnly, FrozenParts, TrainedEncoder
from kinoform.training.loop import finished
from kinoform.training.stage import RunOptions, TrainingSpec, step_flops
from kinoform.world.portrait import off_palette_colour, portrait
from kinoform.world.sampling import Difficulty, sample_scene
from kinoform.world.scene import Thing

COLOUR, SHAPE = (
    next(attribute for attribute in ATTRIBUTES if attribute.name == name) for name in ("first colour", "first shape")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceEncoderConfig:
    """The stream whose embedding learns, of a transformer `dim` wide, and the conditioner that makes its rows.

    Images show the first object of scenes of `level`, in the size of the video. The share `off_palette` of them have a
    colour that no word names, which counts in no loss: shapes are then learnt apart from the colours they are seen in.
    No such colour is near to one that is held out with its shape.
    """

    stream: ReferenceContext | PseudoWordContext
    rows: ContextReferences
    dim: int
    eps: float
    video: VideoSize
    level: Difficulty
    off_palette: float = 0.0
    batch: int = 64
    seed: int = 5


class _ReferenceStage:
    """Base of both stages: images of objects, and their rows."""

    def __init__(self, config: ReferenceEncoderConfig, parts: FrozenParts) -> None:
        self.config = config
        self._encoders = CodecOnly(parts.codec)

    def _rows(self, thing: Thing, generator: np.random.Generator, *, off_palette: bool) -> Float[Tensor, "1 n w"]:
        config = self.config
        rgb = off_palette_colour(thing.subject.shape, generator) if off_palette else None
        pixels = portrait(thing, generator, height=config.video.height, width=config.video.width, rgb=rgb)
        return config.rows.read((InputImage(pixels=pixels),), config.video, self._encoders)


class AttributeBatch(NamedTuple):
    """`values` are indices among the choices of colour and shape; -1 counts in no loss."""

    rows: Float[Tensor, "b n w"]
    values: Int[Tensor, "b attributes"]


class ReferenceClassifier(nn.Module):
    """The stream's embedding and, for this stage only, what reads the attributes off its rows."""

    def __init__(self, config: ReferenceEncoderConfig) -> None:
        super().__init__()
        self.embedding = config.stream.build(config.dim, config.eps)
        self.heads = AttributeHeads(config.dim, (COLOUR, SHAPE))

    def forward(self, rows: Float[Tensor, "b n w"]) -> list[Float[Tensor, "b choices"]]:
        return self.heads(self.embedding(rows))


class AttributeStage(_ReferenceStage):
    """Cross-entropy over the colour and the shape of what an image shows; see `Stage`. `base` is not used."""

    def __init__(self, config: ReferenceEncoderConfig, base: DiT, parts: FrozenParts) -> None:
        super().__init__(config, parts)
        with seeded(config.seed):
            self._classifier = ReferenceClassifier(config)
        self._flops = step_flops(self.loss, self.batch(0))

    @property
    def embedding(self) -> nn.Module:
        return self._classifier.embedding

    def samples(self, step: int) -> int:
        return self.config.batch

    def modules(self) -> ReferenceClassifier:
        return self._classifier

    def flops(self, step: int) -> float:
        return self._flops

    def batch(self, step: int) -> AttributeBatch:
        config, generator = self.config, np.random.default_rng([self.config.seed, step])
        scenes = [sample_scene(config.level, generator) for _ in range(config.batch)]
        nameless = np.zeros(config.batch, dtype=bool)
        if config.off_palette:
            nameless = generator.random(config.batch) < config.off_palette
        rows = [
            self._rows(scene.things[0], generator, off_palette=off_palette)
            for scene, off_palette in zip(scenes, nameless.tolist(), strict=True)
        ]
        values = torch.tensor([[COLOUR.index(scene.story), SHAPE.index(scene.story)] for scene in scenes])
        values[torch.from_numpy(nameless), 0] = -1
        return AttributeBatch(rows=torch.cat(rows), values=values)

    def loss(self, batch: AttributeBatch) -> Float[Tensor, ""]:
        errors = [
            F.cross_entropy(scores, batch.values[:, n], ignore_index=-1, reduction="sum")
            for n, scores in enumerate(self._classifier(batch.rows))
        ]
        return torch.stack(errors).sum() / len(batch.values)

    @torch.no_grad()
    def accuracy(self, batch: AttributeBatch) -> dict[str, float]:
        """Return the share of right answers of each attribute, among those that count."""
        known = batch.values >= 0
        return {
            attribute.name: (scores.argmax(1) == batch.values[:, n])[known[:, n]].float().mean().item()
            for n, (attribute, scores) in enumerate(zip((COLOUR, SHAPE), self._classifier(batch.rows), strict=True))
        }


class TokenBatch(NamedTuple):
    """`weight` is 1 where a token is to be learnt, 0 for a colour that no word names."""

    rows: Float[Tensor, "b n w"]
    tokens: Float[Tensor, "b words d"]
    weight: Float[Tensor, "b words"]


class TextualInversionStage(_ReferenceStage):
    """The squared error of an image's tokens against those that `base` makes of the words, relative to these.

    Behind the rows of a prompt such tokens are words that the base model knows already. See `Stage`.
    """

    def __init__(self, config: ReferenceEncoderConfig, base: DiT, parts: FrozenParts) -> None:
        super().__init__(config, parts)
        self._base, self._parts = base, parts
        with seeded(config.seed):
            self.embedding = config.stream.build(config.dim, config.eps)
        self._flops = step_flops(self.loss, self.batch(0))

    def samples(self, step: int) -> int:
        return self.config.batch

    def modules(self) -> nn.Module:
        return self.embedding

    def flops(self, step: int) -> float:
        return self._flops

    @torch.no_grad()
    def batch(self, step: int) -> TokenBatch:
        config, generator = self.config, np.random.default_rng([self.config.seed, step])
        rows, words, weight = [], [], []
        for _ in range(config.batch):
            thing = sample_scene(config.level, generator).things[0]
            nameless = bool(generator.random() < config.off_palette)
            rows.append(self._rows(thing, generator, off_palette=nameless))
            words.append((thing.subject.colour.name, thing.subject.shape.name))
            weight.append((float(not nameless), 1.0))
        return TokenBatch(rows=torch.cat(rows), tokens=self._tokens(words), weight=torch.tensor(weight))

    def loss(self, batch: TokenBatch) -> Float[Tensor, ""]:
        error = (self.embedding(batch.rows).float() - batch.tokens).square().mean(-1)
        return (batch.weight * error).sum() / batch.weight.sum() / batch.tokens.square().mean()

    @torch.no_grad()
    def accuracy(self, batch: TokenBatch) -> dict[str, float]:
        """Return the share of the words to be learnt whose token is the nearest among those of the batch."""
        tokens = self.embedding(batch.rows).float()
        return {
            name: self._nearest(tokens[:, n], batch.tokens[:, n], batch.weight[:, n] > 0)
            for n, name in enumerate(("colour", "shape"))
        }

    def _nearest(self, tokens: Float[Tensor, "b d"], words: Float[Tensor, "b d"], known: Bool[Tensor, " b"]) -> float:
        kinds = words.unique(dim=0)
        nearest = kinds[torch.cdist(tokens[known], kinds).argmin(1)]
        return (nearest == words[known]).all(1).float().mean().item()

    def _tokens(self, words: list[tuple[str, str]]) -> Float[Tensor, "b words d"]:
        """Embed each word by itself, as the transformer's blocks read it."""
        kinds = sorted({word for pair in words for word in pair})
        embedded = self._base.context["text"](self._parts.rows(kinds))[:, 0].float()
        return embedded[torch.tensor([[kinds.index(word) for word in pair] for pair in words])]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceEncoderPlan:
    """The stage by which an encoder learns first, and whether it stays `frozen` while the rest learns."""

    config: ReferenceEncoderConfig
    training: TrainingSpec
    stage: type[AttributeStage | TextualInversionStage] = AttributeStage
    frozen: bool = False

    def train(self, base: DiT, parts: FrozenParts, folder: Path, options: RunOptions) -> TrainedEncoder:
        """See `EncoderPlan`. Raises what `train` raises."""
        stage = self.stage(self.config, base, parts)
        # The embedding is used as it is, and would stay compiled.
        _, report = finished(stage, folder, self.training, replace(options, sample_every=0, compile=False))
        accuracy = stage.accuracy(stage.batch(HELD_BACK))  # type: ignore[arg-type]
        return TrainedEncoder(
            stream=self.config.stream.name,
            weights=stage.embedding.state_dict(),
            frozen=self.frozen,
            report=report | {"accuracy": accuracy},
        )
