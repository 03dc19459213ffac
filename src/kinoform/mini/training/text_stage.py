"""Stage two: the text encoder learns to predict the attributes that captions name; then it is frozen.

Trained together with the transformer instead, it learnt words but not which object they belong to.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from kinoform.mini.training.attributes import ATTRIBUTES, AttributeHeads
from kinoform.mini.training.dataset import Videos
from kinoform.models.text import TextSpec, encode, initialise
from kinoform.models.tokenizer import Tokenizer, Tokens
from kinoform.ops.drawing import seeded
from kinoform.training.stage import step_flops
from kinoform.world.caption import caption


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """Settings of the text encoder's stage. `videos` gives the stories; nothing is rendered here."""

    text: TextSpec
    videos: Videos
    batch: int = 64
    seed: int = 2


class TextBatch(NamedTuple):
    tokens: Tokens
    values: Int[Tensor, "b attributes"]


class CaptionClassifier(nn.Module):
    """Encoder and, for this stage only, heads that predict the attributes from its rows."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.encoder = spec.build()
        self.heads = AttributeHeads(spec.dim, ATTRIBUTES)

    def forward(self, tokens: Tokens) -> list[Float[Tensor, "b choices"]]:
        return self.heads(encode(self.encoder, tokens), tokens.mask)


class TextStage:
    """Cross-entropy over the attributes; a caption per story, never of a held-out combination."""

    def __init__(self, config: TextConfig, tokenizer: Tokenizer) -> None:
        self.config, self._tokenizer = config, tokenizer
        with seeded(config.seed):
            self._classifier = CaptionClassifier(config.text)
        generator = torch.Generator().manual_seed(config.seed)
        initialise(self._classifier.encoder, generator)
        for classifier in self._classifier.heads.classifiers:
            assert isinstance(classifier, nn.Linear)
            nn.init.normal_(classifier.weight, std=0.02, generator=generator)
            nn.init.zeros_(classifier.bias)
        self._flops = step_flops(self.loss, self.batch(0))

    def samples(self, step: int) -> int:
        return self.config.batch

    def modules(self) -> nn.Module:
        return self._classifier

    def flops(self, step: int) -> float:
        return self._flops

    def batch(self, step: int) -> TextBatch:
        scenes, generator = self.config.videos.scenes(step, self.config.batch)
        stories = [scene.story for scene in scenes]
        captions = [caption(story, generator) for story in stories]
        return TextBatch(
            tokens=self._tokenizer(captions, self.config.text.length),
            values=torch.tensor([[attribute.index(story) for attribute in ATTRIBUTES] for story in stories]),
        )

    def loss(self, batch: TextBatch) -> Float[Tensor, ""]:
        scores = self._classifier(batch.tokens)
        losses = [F.cross_entropy(row, batch.values[:, index]) for index, row in enumerate(scores)]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def accuracy(self, batch: TextBatch) -> dict[str, float]:
        """Return the share of right values of each attribute."""
        scores = self._classifier(batch.tokens)
        return {
            attribute.name: (row.argmax(1) == batch.values[:, index]).float().mean().item()
            for index, (attribute, row) in enumerate(zip(ATTRIBUTES, scores, strict=True))
        }
