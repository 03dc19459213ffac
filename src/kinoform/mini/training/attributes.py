"""Attributes of a story, each with a fixed choice of values, and heads that learn to predict them."""

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
"""The value of every attribute of an object that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """`value(story)` is one of `choices`."""

    name: str
    choices: tuple[Any, ...]
    value: Callable[[Story], Any]

    def index(self, story: Story) -> int:
        """Return the index among the choices of the story's value."""
        return self.choices.index(self.value(story))


def _of_object(story: Story, *, index: int, attribute: str) -> Any:
    return getattr(story.subjects[index], attribute) if index < len(story.subjects) else NOBODY


def _object_attributes(index: int, name: str) -> tuple[Attribute, ...]:
    attributes = {"colour": OBJECT_COLOURS, "shape": SHAPES, "motion": MOTIONS, "size": SIZES}
    return tuple(
        Attribute(
            name=f"{name} {attribute}",
            choices=(*choices, NOBODY),
            value=partial(_of_object, index=index, attribute=attribute),
        )
        for attribute, choices in attributes.items()
    )


ATTRIBUTES = (
    Attribute(name="background", choices=BACKGROUND_COLOURS, value=lambda story: story.background.colour),
    Attribute(name="texture", choices=TEXTURES, value=lambda story: story.background.texture),
    Attribute(name="camera", choices=CAMERAS, value=lambda story: story.camera),
    *_object_attributes(0, "first"),
    *_object_attributes(1, "second"),
)


class AttributeHeads(nn.Module):
    """Learned query and linear classifier for each attribute: attention pooling of the rows, then scores."""

    def __init__(self, dim: int, attributes: Sequence[Attribute]) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(len(attributes), dim))
        self.classifiers = nn.ModuleList(nn.Linear(dim, len(attribute.choices)) for attribute in attributes)

    def forward(
        self, rows: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None = None
    ) -> list[Float[Tensor, "b choices"]]:
        """Compute the scores of each attribute's choices; rows where the mask is false do not count."""
        scores = rows @ self.queries.T
        scores = scores if mask is None else scores.masked_fill(~mask[..., None], -torch.inf)
        pooled = torch.einsum("bnq,bnd->qbd", scores.softmax(1), rows)
        return [classifier(row) for classifier, row in zip(self.classifiers, pooled, strict=True)]
