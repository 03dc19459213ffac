"""Clips that are held out of a training, to be measured and never learnt."""

from __future__ import annotations

import math

import numpy as np

from kinoform.datasets.clips import ClipList
from kinoform.errors import UsageError


def held_out(clips: ClipList, share: float, seed: int) -> tuple[ClipList, ClipList]:
    """Return the clips that are learnt and those that are not: all of a share of the items, drawn by the seed.

    Clips of one item stay together, since they show the same. At least one item is on each side. Raises UsageError for
    a share that is not between 0 and 1, and for a single item.
    """
    names = list(dict.fromkeys(clip.item.name for clip in clips.clips))
    if not 0 < share < 1 or len(names) < 2:
        raise UsageError(
            f"a share of {share:g} of {len(names)} items cannot be held out; give one between 0 and 1, of 2 or more",
            code="value_out_of_range",
        )
    count = min(len(names) - 1, math.ceil(share * len(names)))
    order = np.random.default_rng([seed, len(names)]).permutation(len(names))
    held = {names[number] for number in order[:count]}
    learnt = tuple(clip for clip in clips.clips if clip.item.name not in held)
    kept = tuple(clip for clip in clips.clips if clip.item.name in held)
    note = f"held out of the training: {', '.join(sorted(held)[:8])}{' and others' if count > 8 else ''}"
    return ClipList(clips=learnt, notes=(*clips.notes, note)), ClipList(clips=kept, notes=())
