"""What evaluations have in common: who is judged, and how it is shown, as tables on stdout and as a page."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kinoform.cli import console
from kinoform.cli.events import Result
from kinoform.cli.sides import Side
from kinoform.files import check_writable, whole

if TYPE_CHECKING:
    from kinoform.evaluation.report import Named
    from kinoform.evaluation.tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFile:
    """Where the page goes, None for no page, and how many `videos` of a kind are on it."""

    path: Path | None
    videos: int
    force: bool

    def check(self) -> None:
        """Refuse early what `write` would refuse late. Raises UsageError."""
        if self.path is not None:
            check_writable(self.path, force=self.force)

    def shows(self, number: int) -> bool:
        """Whether the video of this number, from 0, is on the page."""
        return self.path is not None and number < self.videos

    def write(self, text: str) -> None:
        assert self.path is not None
        with whole(self.path, force=self.force) as temporary:
            temporary.write_text(text, encoding="utf-8")
        console.note(f"page: {self.path}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """`first`, and `other` as `compare` names it; `count` videos of a kind."""

    first: Side
    compare: str | None
    other: Side | None
    count: int
    page: PageFile
    as_json: bool

    def command(self, words: Iterable[str]) -> str:
        """The line that makes the same videos again, with these `words` for what is judged."""
        told = ["kinoform", "evaluate", *self.first.words(), *words, "--count", str(self.count)]
        return shlex.join([*told, *([] if self.compare is None else ["--compare", self.compare])])

    def show(
        self, told: Mapping[str, object], names: Sequence[str], sides: Sequence[Named], tables: Sequence[Table]
    ) -> None:
        """The result as JSON or as tables, and `told` to whoever listens to events."""
        if self.as_json or console.streams():
            console.result("", told, as_json=True)
        else:
            _print(names, sides, tables)
            console.tell(Result(result=told))


def _print(names: Sequence[str], sides: Sequence[Named], tables: Sequence[Table]) -> None:
    """The tables are the result, so they go to stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Drawn

    out = Console(file=sys.stdout)
    for name, side in zip(names, sides, strict=True):
        out.print(escape(f"{name}: model {side.fingerprint}"), highlight=False)
    for each in tables:
        table = Drawn(
            title=escape(each.title), title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False,
            collapse_padding=True,
        )  # fmt: skip
        for heading in each.heading:
            table.add_column(escape(heading), justify="right" if heading else "left")
        for row in each.rows:
            table.add_row(*map(escape, row))
        out.print()
        out.print(table)
    if len(sides) > 1:
        out.print("difference: the second side less the first, 95 % interval; * where it excludes 0", highlight=False)
