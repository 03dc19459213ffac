"""Stage two: the text encoder learns what captions say, by answering questions about them; then it is frozen.

Why first, and alone: trained together with the transformer, words were learnt but not what they belong to.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from kinoform.mini.training.attributes import QUESTIONS, Answers
from kinoform.mini.training.dataset import Videos
from kinoform.models.text import TextSpec, encode, initialise
from kinoform.models.tokenizer import Tokenizer, Tokens
from kinoform.ops.drawing import seeded
from kinoform.ops.flops import count_flops
from kinoform.world.caption import caption


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """`videos` gives the stories; nothing is rendered here."""

    text: TextSpec
    videos: Videos
    batch: int = 64
    seed: int = 2


class Batch(NamedTuple):
    tokens: Tokens
    answers: Int[Tensor, "b questions"]


class Probes(nn.Module):
    """The encoder and, for this stage only, what answers off its rows."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.encoder = spec.build()
        self.answers = Answers(spec.dim, QUESTIONS)

    def forward(self, tokens: Tokens) -> list[Float[Tensor, "b answers"]]:
        return self.answers(encode(self.encoder, tokens), tokens.mask)


class TextStage:
    """Cross-entropy over the questions; a caption per story, never of a held-out combination."""

    def __init__(self, config: TextConfig, tokenizer: Tokenizer) -> None:
        self.config, self._tokenizer = config, tokenizer
        with seeded(config.seed):
            self._probes = Probes(config.text)
        generator = torch.Generator().manual_seed(config.seed)
        initialise(self._probes.encoder, generator)
        for answer in self._probes.answers.answers:
            assert isinstance(answer, nn.Linear)
            nn.init.normal_(answer.weight, std=0.02, generator=generator)
            nn.init.zeros_(answer.bias)
        tokens = self.batch(0).tokens
        self.samples_per_step = config.batch
        self.flops_per_step = 3.0 * count_flops(lambda: self._probes(tokens))

    def modules(self) -> nn.Module:
        return self._probes

    def batch(self, step: int) -> Batch:
        scenes, generator = self.config.videos.scenes(step, self.config.batch)
        stories = [scene.story for scene in scenes]
        captions = [caption(story, generator) for story in stories]
        return Batch(
            tokens=self._tokenizer(captions, self.config.text.length),
            answers=torch.tensor([[question.place(story) for question in QUESTIONS] for story in stories]),
        )

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        found = self._probes(batch.tokens)
        losses = [F.cross_entropy(row, batch.answers[:, place]) for place, row in enumerate(found)]
        return torch.stack(losses).sum()

    def sample(self, step: int, folder: Path) -> None:
        """Nothing to look at."""

    @torch.no_grad()
    def accuracy(self, batch: Batch) -> dict[str, float]:
        """The share of right answers to each question."""
        found = self._probes(batch.tokens)
        return {
            question.name: (row.argmax(1) == batch.answers[:, place]).float().mean().item()
            for place, (question, row) in enumerate(zip(QUESTIONS, found, strict=True))
        }
