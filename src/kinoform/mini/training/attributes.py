"""What a story tells, as questions with a fixed choice of answers: the text encoder learns to read them off."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinoform.world.backgrounds import CAMERAS, TEXTURES
from kinoform.world.motions import MOTIONS
from kinoform.world.palette import BACKGROUND_COLOURS, OBJECT_COLOURS
from kinoform.world.scene import SIZES, Story
from kinoform.world.shapes import SHAPES

NOBODY = None
"""The answer to whatever is asked of an object that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`answer(story)` is one of `choices`."""

    name: str
    choices: tuple[Any, ...]
    answer: Callable[[Story], Any]

    def place(self, story: Story) -> int:
        """Which of the choices, from 0."""
        return self.choices.index(self.answer(story))


def _of_object(story: Story, *, place: int, attribute: str) -> Any:
    return getattr(story.subjects[place], attribute) if place < len(story.subjects) else NOBODY


def _about_object(place: int, name: str) -> tuple[Question, ...]:
    attributes = {"colour": OBJECT_COLOURS, "shape": SHAPES, "motion": MOTIONS, "size": SIZES}
    return tuple(
        Question(
            name=f"{name} {attribute}",
            choices=(*choices, NOBODY),
            answer=partial(_of_object, place=place, attribute=attribute),
        )
        for attribute, choices in attributes.items()
    )


QUESTIONS = (
    Question(name="background", choices=BACKGROUND_COLOURS, answer=lambda story: story.background.colour),
    Question(name="texture", choices=TEXTURES, answer=lambda story: story.background.texture),
    Question(name="camera", choices=CAMERAS, answer=lambda story: story.camera),
    *_about_object(0, "first"),
    *_about_object(1, "second"),
)


class Answers(nn.Module):
    """A learned query and a linear answer for each question, which reads it off the rows that the query finds."""

    def __init__(self, dim: int, questions: Sequence[Question]) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(len(questions), dim))
        self.answers = nn.ModuleList(nn.Linear(dim, len(question.choices)) for question in questions)

    def forward(
        self, rows: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None = None
    ) -> list[Float[Tensor, "b choices"]]:
        """Scores of each question's choices; of rows where the mask is false nothing is read."""
        scores = rows @ self.queries.T
        scores = scores if mask is None else scores.masked_fill(~mask[..., None], -torch.inf)
        pooled = torch.einsum("bnq,bnd->qbd", scores.softmax(1), rows)
        return [answer(row) for answer, row in zip(self.answers, pooled, strict=True)]
