"""Words that keep their meaning: twins of the clips, whose target is what the model said before."""

from dataclasses import replace

import pytest
import torch

from kinoform.conditions.protocols import NOTHING
from kinoform.training.examples import Example
from kinoform.training.keeping import KeepingExamples, KeptWords
from tests.support.refusals import refused
from tests.training.test_adapter import short, stage

KEPT = KeptWords(word="brown", others=("red", "orange"))


class Clips:
    """Four examples a step."""

    def count(self, step: int) -> int:
        return 4

    def alike(self, step: int) -> int:
        return 0

    def draw(self, step: int, mine: slice) -> list[Example]:
        latents = torch.zeros(1, 1, 1, 1)
        return [Example(name=f"{n}", prompt=f"a brown ball {n}", latents=latents, condition=NOTHING) for n in range(4)][
            mine
        ]

    def names(self, step: int) -> list[str]:
        return [f"{n}" for n in range(4)]

    def rows(self, prompts: list[str]) -> torch.Tensor:
        return torch.zeros(len(prompts), 1, 1)


def test_a_caption_gets_another_word_and_its_article() -> None:
    assert KEPT.told("a brown ball and brownish ground", "orange") == "an orange ball and brownish ground"
    assert KEPT.captions(["brown ball", "a ball"]) == ["red ball", "orange ball", "a ball"]


def test_every_clip_is_followed_by_its_twin_whatever_part_is_drawn() -> None:
    made = KeepingExamples(examples=Clips(), kept=KEPT, seed=1)
    whole = made.draw(3, slice(None))
    assert [item.name for item in whole] == made.names(3) and len(whole) == made.count(3) == 8
    assert [item.kept for item in whole] == [False, True] * 4
    assert {item.prompt.split()[1] for item in whole if item.kept} <= {"red", "orange"}
    for first, last in ((0, 4), (4, 8), (2, 4), (3, 6)):
        part = made.draw(3, slice(first, last))
        assert [(item.name, item.prompt) for item in part] == [(item.name, item.prompt) for item in whole[first:last]]
    prompts = [[item.prompt for item in made.draw(step, slice(None))] for step in range(20)]
    assert len({tuple(each) for each in prompts}) > 5


def test_words_that_say_nothing_are_refused() -> None:
    for word, others in (("", ("red",)), ("brown", ()), ("brown", ("red", " "))):
        with refused("bad_value"):
            KeptWords(word=word, others=others)
    with refused("pattern_matches_nothing", "'brown'"):
        KEPT.check(["a red ball"])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_is_kept_is_learnt_as_it_was(share: float) -> None:
    """The velocity before is the target: at the first step, where nothing has changed, its loss is 0."""
    made = stage(short())
    (group,) = made.batch(0)[:1]
    kept = len(group.kept) * (bool(share),)
    loss = made.loss((replace(group, kept=kept, share=1.0),))
    assert (float(loss.total) == 0.0) is bool(share)
