"""Sides of an evaluation, a model and its settings each, and how their results are shown: as tables and as a page."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinoform.cli import console
from kinoform.cli.events import Result
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.option_groups import VideoOptions
from kinoform.cli.options import words_of
from kinoform.cli.settings import SETTINGS, kind_of
from kinoform.cli.values import scales_of
from kinoform.errors import UsageError, nearest
from kinoform.files import check_writable, whole

if TYPE_CHECKING:
    from kinoform.evaluation.benchmark import ModelUnderTest
    from kinoform.evaluation.case import Task
    from kinoform.evaluation.report import Report

COMPARED = ("size", "frames", "steps", "guidance_scale", "shift", "solver", "dtype", "device")
"""The settings that may differ between sides besides the model."""

EXAMPLE = "--compare steps=8,guidance_scale=3"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedModel:
    """Model and the options of its videos; what is None comes from its recipe."""

    model: ModelOptions
    video: VideoOptions
    machine: MachineOptions

    def words(self) -> list[str]:
        """Return the words of the command line that name the same side."""
        named = replace(self.model, model=None)
        return [str(self.model.model), *words_of(named), *words_of(self.machine), *words_of(self.video)]

    def setting(self, values: Mapping[str, Any]) -> ComparedModel:
        """Return the same side with other settings."""
        video = {name: value for name, value in values.items() if hasattr(self.video, name)}
        machine = {name: value for name, value in values.items() if hasattr(self.machine, name)}
        return replace(self, video=replace(self.video, **video), machine=replace(self.machine, **machine))


def beside(first: ComparedModel, text: str) -> ComparedModel:
    """Return the side that `text` names: a model, settings of the first model, or both, model first.

    Settings that it does not name are those of `first`. Raises UsageError for settings that are unknown, given
    twice, or of the wrong kind.
    """
    start, *rest = [text] if os.path.exists(text) else _pieces(text)
    if "=" in start and not os.path.exists(start):
        return first.setting(_settings([start, *rest]))
    return replace(first, model=ModelOptions(model=start)).setting(_settings(rest))


def prepared(
    sides: Sequence[ComparedModel], levels: Sequence[str] | None, names: Sequence[str]
) -> tuple[tuple[ModelUnderTest, ...], tuple[Task, ...]]:
    """Load the models of all sides, and draw up the tasks: of these levels, or with None those of inputs.

    `names` are those of the tasks of inputs, empty for all. Raises as loading does, and UsageError for an unknown name.
    """
    from kinoform.evaluation.benchmark import default_tasks
    from kinoform.evaluation.evaluate import input_tasks

    models = _models_under_test(sides)
    return models, input_tasks(models[0].pipeline, names) if levels is None else default_tasks(models, levels)


def _models_under_test(sides: Sequence[ComparedModel]) -> tuple[ModelUnderTest, ...]:
    """Load the models of all sides; one that serves several is loaded once."""
    from kinoform.evaluation.benchmark import ModelUnderTest

    models = list[ModelUnderTest]()
    for side in sides:
        alike = [item.pipeline for item, other in zip(models, sides, strict=False) if _loads_alike(side, other)]
        pipeline = alike[0] if alike else side.model.load(side.machine)
        models.append(ModelUnderTest(pipeline=pipeline, changes=side.video.changes()))
    return tuple(models)


def _loads_alike(one: ComparedModel, other: ComparedModel) -> bool:
    return (one.model, one.machine) == (other.model, other.machine)


def _pieces(text: str) -> list[str]:
    """Split at commas, but those within a solver's brackets and those between several scales."""
    pieces: list[str] = []
    for piece in re.split(r",(?![^()]*\)|\s*[\d.]+\s*(?:@[^,]*)?(?:,|$))", text):
        name, equals, _ = (part.strip() for part in piece.partition("="))
        if pieces and equals and name not in COMPARED and re.fullmatch(r"[^=(]+=[^=(]+=.*", pieces[-1]):
            pieces[-1] += f",{piece}"
        else:
            pieces.append(piece)
    return pieces


def _settings(pieces: list[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for piece in pieces:
        name, _, value = (part.strip() for part in piece.partition("="))
        if name not in COMPARED:
            raise UsageError(
                f"--compare has no setting {name[:60]!r}; {nearest(name[:60], COMPARED)}", code="unknown_name"
            )
        if name in values:
            raise UsageError(f"--compare says {name} twice; say it once", code="said_twice")
        values[name] = _value(name, value)
    return values


def _value(name: str, text: str) -> object:
    kind, mark = SETTINGS[name]
    if mark.numbers:
        scales_of(text, f"--compare {name}")
    try:
        if text:
            return kind(text)
    except ValueError:
        pass
    raise UsageError(
        f"--compare {name} must be {kind_of(name)}, not {text[:60]!r}; write for example {EXAMPLE}", code="bad_value"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFile:
    """The file of the page, None for no page, and how many `videos` of a kind are on it."""

    path: Path | None
    videos: int
    force: bool

    def check(self) -> None:
        """Raise UsageError early where `write` would fail."""
        if self.path is not None:
            check_writable(self.path, force=self.force)

    def shows(self, number: int) -> bool:
        """Tell whether the video of this number, from 0, is on the page."""
        return self.path is not None and number < self.videos

    def write(self, text: str) -> None:
        assert self.path is not None
        with whole(self.path, force=self.force) as temporary:
            temporary.write_text(text, encoding="utf-8")
        console.note(f"page: {self.path}")


def command_line(first: ComparedModel, compare: Sequence[str], count: int, words: Iterable[str]) -> str:
    """Return the line that makes the same videos again, with these `words` for what is judged."""
    line = ["kinoform", "evaluate", *first.words(), *words, "--count", str(count)]
    return shlex.join([*line, *(word for text in compare for word in ("--compare", text))])


def show(report: Report, *, as_json: bool) -> None:
    """Print the result as JSON or as tables, and emit its event."""
    if as_json or console.streams():
        console.result("", report.as_json(), as_json=True)
    else:
        _print(report)
        console.emit(Result(result=report.as_json()))


def _print(report: Report) -> None:
    """Print the tables to stdout, since they are the result."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kinoform.evaluation.tables import tables

    out = Console(file=sys.stdout)
    for name, side in zip(report.names, report.sides, strict=True):
        out.print(escape(f"{name}: model {side.fingerprint}, {side.size}"), highlight=False)
    for item in tables(report):
        table = Table(
            title=escape(item.title), title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False,
            collapse_padding=True,
        )  # fmt: skip
        for heading in item.heading:
            table.add_column(escape(heading), justify="right" if heading else "left")
        for row in item.rows:
            table.add_row(*map(escape, row))
        out.print()
        out.print(table)
    if report.others:
        less = "the second side" if len(report.others) == 1 else "each side"
        out.print(f"difference: {less} less the first, 95 % interval; * where it excludes 0", highlight=False)
