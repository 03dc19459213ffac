"""`kinoform evaluate`: how often films show what their prompts say."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli import console
from kinoform.cli.events import Result
from kinoform.cli.options import (
    FILM,
    OUTPUT,
    AsJson,
    DeviceName,
    DtypeName,
    Force,
    Guidance,
    Shift,
    SolverName,
    Steps,
    model_names,
    option,
)
from kinoform.cli.progress import stages
from kinoform.cli.sides import Side, beside, contenders
from kinoform.errors import UsageError
from kinoform.files import check_writable, whole

if TYPE_CHECKING:
    from kinoform.evaluation.benchmark import Place
    from kinoform.evaluation.report import Report
    from kinoform.media.film import Film

MOST_FILMS = 100_000


def evaluate(
    model: Annotated[str, typer.Argument(help="The model to judge.", autocompletion=model_names)] = "mini",
    level: Annotated[list[str] | None, option(FILM, "L1, L2 or L3; may be repeated, all of them if left out.")] = None,
    count: Annotated[int, option(FILM, "Films per level and split.")] = 200,
    compare: Annotated[
        str | None, option(FILM, "A model, settings as steps=8,guidance=3, or MODEL,steps=8.", complete=model_names)
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    shift: Shift = None,
    solver: SolverName = None,
    device: DeviceName = "auto",
    dtype: DtypeName = "auto",
    html: Annotated[Path | None, option(OUTPUT, "Also write a page with tables and films.")] = None,
    html_films: Annotated[int, option(OUTPUT, "Films per level and split on the page.")] = 24,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Measure prompt-following on the world's held-back prompts; the same films on every machine."""
    for name, value, least in (("--count", count, 1), ("--html-films", html_films, 0)):
        if not least <= value <= MOST_FILMS:
            raise UsageError(f"{name} must be from {least} to {MOST_FILMS}, not {value}")
    if html is not None:
        check_writable(html, force=force)
    first = Side(
        model=model, device=device, dtype=dtype, steps=steps, guidance=guidance, shift=shift, solver=solver
    )  # fmt: skip
    other = None if compare is None else beside(first, compare)
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.evaluation.benchmark import benchmark
    from kinoform.evaluation.evaluate import stage_of
    from kinoform.evaluation.page import page, picture
    from kinoform.evaluation.prompts import LEVELS, SPLITS

    levels = list(dict.fromkeys(level or LEVELS))
    pictures: dict[Place, bytes] = {}

    def watch(place: Place, film: Film) -> None:
        if html is not None and place.number < html_films:
            pictures[place] = picture(film)

    mine, theirs = contenders(first, other)
    titles = {stage_of(name, split): stage_of(name, split) for name in levels for split in SPLITS}
    with stages(titles, items=1 if theirs is None else 2) as tell:
        report = benchmark(mine, theirs, levels=levels, count=count, tell=tell, watch=watch)
    if html is not None:
        command = _command(first, levels, count, compare)
        with whole(html, force=force) as temporary:
            temporary.write_text(page(report, command=command, pictures=pictures), encoding="utf-8")
        console.note(f"page: {html}")
    if as_json or console.streams():
        console.result("", report.as_json(), as_json=True)
    else:
        print_tables(report)
        console.tell(Result(result=report.as_json()))


def _command(first: Side, levels: list[str], count: int, compare: str | None) -> str:
    """The words that make the same films again, whatever was written about them."""
    words = ["kinoform", "evaluate", *first.words()]
    words += [word for name in levels for word in ("--level", name)]
    words += ["--count", str(count), *([] if compare is None else ["--compare", compare])]
    return shlex.join(words)


def print_tables(report: Report) -> None:
    """The tables are the result, so they go to stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kinoform.evaluation.tables import tables

    out = Console(file=sys.stdout)
    for name, side in zip(report.names, (report.first, report.other), strict=False):
        out.print(escape(f"{name}: model {side[0].fingerprint}"), highlight=False)
    for each in tables(report):
        table = Table(
            title=escape(each.title), title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False,
            collapse_padding=True,
        )  # fmt: skip
        for heading in each.heading:
            table.add_column(escape(heading), justify="right" if heading else "left")
        for row in each.rows:
            table.add_row(*map(escape, row))
        out.print()
        out.print(table)
    if report.other:
        out.print("difference: the second side less the first, 95 % interval; * where it excludes 0", highlight=False)
