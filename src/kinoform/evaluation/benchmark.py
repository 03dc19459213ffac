"""Judge one model, or two sides on the same prompts and seeds, at several levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kinoform.evaluation.evaluate import Tell, check_judgeable, evaluate
from kinoform.evaluation.prompts import LEVELS
from kinoform.evaluation.report import Report
from kinoform.evaluation.skill import Evaluation
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A model, and the `changes` of its recipe's defaults under which it makes its videos."""

    pipeline: Pipeline
    changes: Mapping[str, object] = field(default_factory=dict)


class Place(NamedTuple):
    """Which video: `side` is 0 for the first contender, 1 for the other; `number` counts from 0 in its split."""

    side: int
    level: str
    split: str
    number: int


def benchmark(
    first: Contender,
    other: Contender | None = None,
    *,
    levels: Sequence[str] = tuple(LEVELS),
    count: int = 200,
    tell: Tell = lambda stage, done, total: None,
    watch: Callable[[Place, Video], None] = lambda place, video: None,
) -> Report:
    """Evaluate each side at each level with `count` videos per split; `watch` sees every video once.

    Raises what `evaluate` raises for either side, before the first video is made.
    """
    sides = [first] if other is None else [first, other]
    for side in sides:
        for level in levels:
            check_judgeable(side.pipeline, level, count, side.changes)
    found: list[list[Evaluation]] = [[] for _ in sides]
    for level in levels:
        for number, side in enumerate(sides):
            watching = _watching(watch, number, level)
            evaluation = evaluate(side.pipeline, level=level, count=count, tell=tell, watch=watching, **side.changes)
            found[number].append(evaluation)
    return Report(first=tuple(found[0]), other=tuple(found[1]) if other else ())


def _watching(watch: Callable[[Place, Video], None], side: int, level: str) -> Callable[[str, int, Video], None]:
    return lambda split, number, video: watch(Place(side, level, split, number), video)
