"""Words that keep their meaning while another is learnt: each clip is shown once more under a caption that has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from kinoform.errors import UsageError
from kinoform.training.examples import Example, Examples


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptWords:
    """The `word` that clips teach, and `others` that may stand in its place and shall mean what they meant.

    Under a caption with one of these in place of the word, the velocity of the base model is learnt: what clips
    have in common would otherwise come with every prompt. Raises UsageError for no word or no others.
    """

    word: str
    others: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.word.strip() or not self.others or not all(other.strip() for other in self.others):
            raise UsageError(
                "say which word is learnt and which keep their meaning: brown=red,green,blue", code="bad_value"
            )

    def captions(self, captions: Iterable[str]) -> list[str]:
        """Return every caption that captions become with another word."""
        found = (self.told(caption, other) for caption in captions for other in self.others)
        return list(dict.fromkeys(found))

    def told(self, caption: str, other: str) -> str:
        """Return a caption with another word, "an" for "a" where that is right."""
        article = "an" if other[0] in "aeiou" else "a"
        text = re.sub(rf"\b(a|an) {re.escape(self.word)}\b", f"{article} {other}", caption)
        return re.sub(rf"\b{re.escape(self.word)}\b", other, text)

    def check(self, captions: Iterable[str]) -> None:
        """Raise UsageError where no caption has the word."""
        if not any(re.search(rf"\b{re.escape(self.word)}\b", caption) for caption in captions):
            raise UsageError(
                f"no caption has the word {self.word[:40]!r}, whose place others are to take",
                code="pattern_matches_nothing",
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeepingExamples:
    """Examples, each followed by itself under a caption with another word; see `Examples`."""

    examples: Examples
    kept: KeptWords
    seed: int

    def count(self, step: int) -> int:
        """See `Examples`."""
        return 2 * self.examples.count(step)

    def alike(self, step: int) -> int:
        """See `Examples`."""
        return self.examples.alike(step)

    def draw(self, step: int, mine: slice) -> list[Example]:
        """See `Examples`."""
        count = self.count(step)
        others = np.random.default_rng([self.seed, step]).integers(len(self.kept.others), size=count // 2).tolist()
        first, last = mine.start or 0, count if mine.stop is None else mine.stop
        own = self.examples.draw(step, slice(first // 2, (last + 1) // 2))
        twins = others[first // 2 : (last + 1) // 2]
        drawn = [each for pair in zip(own, map(self._kept, own, twins), strict=True) for each in pair]
        return drawn[first % 2 :][: last - first]

    def names(self, step: int) -> list[str]:
        """See `Examples`."""
        return [name for own in self.examples.names(step) for name in (own, own)]

    def rows(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """See `Examples`."""
        return self.examples.rows(prompts)

    def _kept(self, example: Example, other: int) -> Example:
        prompt = self.kept.told(example.prompt, self.kept.others[other])
        return replace(example, prompt=prompt, kept=True)
