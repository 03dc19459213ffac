"""Judge what is asked in words and, where a side takes references, what an image shows: one report of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kinoform.evaluation.benchmark import Contender, Place, benchmark
from kinoform.evaluation.evaluate import Tell, stage_of
from kinoform.evaluation.inputs.benchmark import InputsPlace, benchmark_inputs
from kinoform.evaluation.inputs.case import Case, Task
from kinoform.evaluation.inputs.evaluate import check_tasks
from kinoform.evaluation.inputs.identity_tasks import IDENTITY_TASKS
from kinoform.evaluation.inputs.page import sections
from kinoform.evaluation.inputs.report import LEVEL, InputsReport
from kinoform.evaluation.inputs.tables import inputs_tables
from kinoform.evaluation.page import page
from kinoform.evaluation.prompts import LEVELS, SPLITS
from kinoform.evaluation.report import Report
from kinoform.evaluation.tables import Table, tables
from kinoform.media.video import Video

NOTE = """Identity: a sentence that does not name the object, with an image of it, without, and with an image of
another object, which the video must then show. Each video stands to the right of its image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """`identity` is None where neither side takes references; a side that takes none makes its videos without."""

    words: Report
    identity: InputsReport | None

    def as_json(self) -> dict[str, object]:
        return {**self.words.as_json(), "identity": None if self.identity is None else self.identity.as_json()}


def judgement(
    first: Contender,
    other: Contender | None = None,
    *,
    levels: Sequence[str] = tuple(LEVELS),
    count: int = 200,
    tell: Tell = lambda stage, done, total: None,
    watch: Callable[[Place, Video], None] = lambda place, video: None,
    watch_identity: Callable[[InputsPlace, Case, Video], None] = lambda place, case, video: None,
) -> Judgement:
    """Make `count` videos per level and split, and per case of identity, on each side; each video is watched once.

    Identity is judged with level L1, the level of its scenes. Raises what `benchmark` and `benchmark_inputs` raise,
    before the first video is made.
    """
    sides = [first] if other is None else [first, other]
    tasks = _identity_tasks(sides, levels)
    for side in sides:
        check_tasks(side.pipeline, tasks, count, side.changes)
    words = benchmark(first, other, levels=levels, count=count, tell=tell, watch=watch)
    if not tasks:
        return Judgement(words=words, identity=None)
    identity = benchmark_inputs(first, other, tasks, count=count, tell=tell, watch=watch_identity)
    return Judgement(words=words, identity=identity)


def stages_of(first: Contender, other: Contender | None, levels: Sequence[str]) -> Iterator[str]:
    """What `tell` is told of, in order; with two sides of each twice."""
    for level in levels:
        yield from (stage_of(level, split) for split in SPLITS)
    yield from (task.name for task in _identity_tasks([first] if other is None else [first, other], levels))


def judgement_tables(found: Judgement) -> tuple[Table, ...]:
    """Those of the levels, of what a video takes, and of each case of identity."""
    return (*tables(found.words), *(() if found.identity is None else inputs_tables(found.identity)))


def judgement_page(
    found: Judgement, *, command: str, images: Mapping[Place, bytes], strips: Mapping[InputsPlace, bytes]
) -> str:
    """The page; videos whose `images`, or `strips` beside their references, are given are shown."""
    note = f'<p class="faint">{NOTE}</p>'
    more = () if found.identity is None else (note, *sections(found.identity, strips))
    return page(found.words, command=command, images=images, more=more)


def _identity_tasks(sides: Sequence[Contender], levels: Sequence[str]) -> tuple[Task, ...]:
    """Those that one of the sides can make whole."""
    takes = [frozenset(side.pipeline.inputs) for side in sides]
    return tuple(task for task in IDENTITY_TASKS if LEVEL in levels and any(task.needs <= each for each in takes))
