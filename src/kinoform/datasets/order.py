"""The order in which clips are learnt: each step's batch is a function of its number and of a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from kinoform.conditions.protocols import Units, VideoSize
from kinoform.datasets.buckets import BatchSize
from kinoform.datasets.clips import Clip


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchOrder:
    """Epochs of batches, each of clips of one size; every clip is in every epoch, as often as its item's repeats.

    A batch that a bucket does not fill takes further clips from the beginning of its order, so that none is left
    out and all batches of a size are equal.
    """

    clips: tuple[Clip, ...]
    batch: BatchSize
    units: Units
    seed: int

    @cached_property
    def steps(self) -> int:
        """Steps of an epoch."""
        return sum(math.ceil(len(entries) / self._count(size)) for size, entries in self._buckets.items())

    def at(self, step: int) -> tuple[Clip, ...]:
        """Return the batch of a step."""
        epoch, index = divmod(step, self.steps)
        return tuple(self.clips[number] for number in _epoch(self, epoch)[index])

    def first_alike(self, step: int) -> int:
        """Return the first step whose clips have the size of those of `step`."""
        return self._first[self.at(step)[0].size]

    @cached_property
    def _first(self) -> dict[VideoSize, int]:
        """The first step of each size."""
        return {self.at(step)[0].size: step for step in reversed(range(self.steps))}

    def _count(self, size: VideoSize) -> int:
        """Return the number of clips in a batch of this size; no more than there are, if the processes allow it."""
        there, processes = len(self._buckets[size]), self.batch.processes
        return min(self.batch.of(size, self.units), math.ceil(there / processes) * processes)

    @cached_property
    def _buckets(self) -> dict[VideoSize, list[int]]:
        """The clips of each size by number, as often as they count."""
        found: dict[VideoSize, list[int]] = {}
        for number, clip in enumerate(self.clips):
            found.setdefault(clip.size, []).extend(clip.item.repeats * [number])
        return found

    def drawn(self, epoch: int) -> list[tuple[int, ...]]:
        """Draw the batches of an epoch, as indices of clips."""
        generator = np.random.default_rng([self.seed, epoch])
        batches: list[tuple[int, ...]] = []
        for size, entries in self._buckets.items():
            count, order = self._count(size), generator.permutation(entries).tolist()
            filled = order + [order[n % len(order)] for n in range(-len(order) % count)]
            batches += [tuple(filled[at : at + count]) for at in range(0, len(filled), count)]
        return [batches[number] for number in generator.permutation(len(batches))]


@lru_cache(maxsize=4)
def _epoch(order: BatchOrder, epoch: int) -> Sequence[tuple[int, ...]]:
    return order.drawn(epoch)
