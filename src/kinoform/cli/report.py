"""`kinoform report`: a training as one page, also while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.option_groups import OutputOptions
from kinoform.cli.options import OUTPUT, command, option, varied
from kinoform.files import whole

PAGE = "report.html"


@command
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `kinoform train`.")],
    *,
    output: Annotated[
        Path | None, option(OUTPUT, "Where the page goes; else report.html in the run.", "--output", "-o")
    ] = None,
    results: Annotated[OutputOptions, varied(only=("force", "as_json"))],
) -> None:
    """Write curves, samples and settings of a training as one HTML page; the training may still run.

    The page in the run itself is written anew each time.
    """
    from kinoform.training.run_log import read_run
    from kinoform.training.run_page import run_page

    stages, path = read_run(run), output or run / PAGE
    with whole(path, force=results.force or output is None) as temporary:
        temporary.write_text(run_page(run.resolve().name, stages), encoding="utf-8")
    value = {
        "output": str(path),
        "stages": {stage.name: {"steps": len(stage.measurements), "damaged": stage.damaged} for stage in stages},
    }
    lines = [f"{stage.name}: {len(stage.measurements)} steps" for stage in stages]
    console.result("\n".join([str(path), *lines]), value, as_json=results.as_json)
