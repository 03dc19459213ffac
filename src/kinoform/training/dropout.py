"""Dropout of what a sample is given, so that a model also learns to do without, and guidance can tell inputs apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

import torch

from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.errors import UsageError
from kinoform.numbers import real, settle

if TYPE_CHECKING:
    from kinoform.conditions.inputs import InputField, Inputs

LAST = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Shares of the samples that lose something, each by a draw of its own; all from 0 to 1, and 0 by default.

    `caption`: the prompt, for the recipe's negative prompt; `first`, `last`: the known frame of that name; `source`:
    the video, with its mask; `mask`: the mask alone, so that the whole video is to be changed; `reference`: each of
    the reference images by itself; `everything`: all of these inputs at once, the prompt not. Raises UsageError for a
    share out of range.
    """

    caption: float = 0.0
    first: float = 0.0
    last: float = 0.0
    source: float = 0.0
    mask: float = 0.0
    reference: float = 0.0
    everything: float = 0.0

    def __post_init__(self) -> None:
        names = [item.name for item in fields(self)]
        settle(self, **{name: real(f"the dropout of {name}", getattr(self, name), 0.0, 1.0) for name in names})

    @property
    def inputs_drop(self) -> bool:
        """Return whether any input but the caption may be lost."""
        return any(getattr(self, item.name) for item in fields(self) if item.name != "caption")

    def draw(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """Return what is left of a sample's inputs.

        As many numbers are drawn for any inputs with as many references, so that one more share moves no other draw.
        """
        count = len(inputs[REFERENCE_IMAGES])
        u = torch.rand(5 + count, generator=generator, dtype=torch.float64).tolist()
        shares = (self.everything, self.first, self.last, self.source, self.mask, *[self.reference] * count)
        lost = [value < share for value, share in zip(u, shares, strict=True)]
        parts = _parts(inputs)
        if lost[0]:
            return without(inputs, frozenset(parts))
        names = ("first", "last", "source", "mask", *(f"reference {number}" for number in range(count)))
        return without(inputs, frozenset(name for name, loses in zip(names, lost[1:], strict=True) if loses))

    def variants(self, inputs: Inputs) -> Iterator[frozenset[str]]:
        """Yield each set of parts that a sample with these inputs may lose, nothing first: what a cache has to hold."""
        parts = _parts(inputs)
        shares = {name: getattr(self, name.split()[0]) for name in parts}
        certain = frozenset(name for name, share in shares.items() if share == 1)
        possible = [name for name, share in shares.items() if 0 < share < 1]
        chosen = chain.from_iterable(combinations(possible, count) for count in range(len(possible) + 1))
        sets = {certain.union(names): None for names in chosen if self.everything < 1}
        if self.everything:
            sets[frozenset(parts)] = None
        yield from sets


def without(inputs: Inputs, lost: frozenset[str]) -> Inputs:
    """Return inputs without the parts of these names: `first`, `last`, `source`, `mask`, `reference 0` and so on.

    A mask goes with its video. Parts that are not there are lost already. Raises UsageError for an unknown name.
    """
    if unknown := [name for name in lost if name.split()[0] not in _NAMES]:
        raise UsageError(f"no part of the inputs is called {unknown[0]!r}; there are {', '.join(_NAMES)}",
                         code="unknown_name")  # fmt: skip
    changes: dict[InputField[Any], Any] = {}
    if lost & {"first", "last"}:
        dropped = {place for place, name in ((0, "first"), (LAST, "last")) if name in lost}
        changes[FRAMES] = {place: image for place, image in inputs[FRAMES].items() if place not in dropped}
    if "source" in lost:
        changes[VIDEO] = None
    if lost & {"source", "mask"}:
        changes[MASK] = None
    if any(name.startswith("reference") for name in lost):
        images = enumerate(inputs[REFERENCE_IMAGES])
        changes[REFERENCE_IMAGES] = tuple(image for number, image in images if f"reference {number}" not in lost)
    return inputs | changes if changes else inputs


_NAMES = ("first", "last", "source", "mask", "reference")


def _parts(inputs: Inputs) -> tuple[str, ...]:
    """Return the names of the parts that are there."""
    there = {
        "first": 0 in inputs[FRAMES],
        "last": LAST in inputs[FRAMES],
        "source": inputs[VIDEO] is not None,
        "mask": inputs[MASK] is not None,
    }
    numbered = (f"reference {number}" for number in range(len(inputs[REFERENCE_IMAGES])))
    return (*(name for name, given in there.items() if given), *numbered)
