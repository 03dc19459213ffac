"""`kinoform evaluate`: how often films show what their prompts say."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli import console
from kinoform.cli.chosen import Chosen
from kinoform.cli.events import Result
from kinoform.cli.options import (
    AsJson,
    DeviceName,
    DtypeName,
    Guidance,
    Shift,
    SolverName,
    Steps,
    model_names,
    solver_named,
)
from kinoform.cli.progress import stages

if TYPE_CHECKING:
    from kinoform.evaluate import Evaluation, Share


def evaluate(
    model: Annotated[str, typer.Argument(help="The model to judge.", autocompletion=model_names)] = "mini",
    count: Annotated[int, typer.Option(help="Films per split.")] = 200,
    steps: Steps = None,
    guidance: Guidance = None,
    shift: Shift = None,
    solver: SolverName = None,
    device: DeviceName = "auto",
    dtype: DtypeName = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure prompt-following on the world's held-back prompts; the same films on every machine."""
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.evaluate import evaluate as judge

    pipeline = Chosen(model=model, device=device, dtype=dtype).load()
    with stages({"seen": "seen prompts", "held-out": "held-out prompts"}) as tell:
        found = judge(
            pipeline, count=count, tell=tell,
            steps=steps, guidance=guidance, shift=shift, solver=solver_named(solver),
        )  # fmt: skip
    if as_json or console.streams():
        console.result("", found.as_json(), as_json=True)
    else:
        print_table(found)
        console.tell(Result(result=found.as_json()))


def print_table(found: Evaluation) -> None:
    """Shares with the 95 % Wilson interval; the table is the result, so it goes to stdout."""
    from rich.console import Console
    from rich.table import Table

    from kinoform.evaluate import ATTRIBUTES

    table = Table(title=f"{found.model} {found.fingerprint}: films that show what was asked")
    for heading in ("", *(split.split for split in found.splits), "codec ceiling", "chance"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name in ATTRIBUTES:
        cells = [_cell(split.skill[name]) for split in found.splits]
        ceiling = [split.ceiling[name] for split in found.splits]
        both = sum(share.right for share in ceiling) / sum(share.trials for share in ceiling)
        table.add_row(name.replace("_", " "), *cells, f"{both:.2f}", f"{found.chance[name]:.3f}")
    table.add_row("binding error", *(_cell(split.binding_error) for split in found.splits), "", "")
    table.add_row("seconds a film", *(f"{split.seconds_per_film:.2f}" for split in found.splits), "", "")
    Console(file=sys.stdout).print(table)


def _cell(share: Share) -> str:
    return f"{share.share:.2f} [{share.low:.2f}, {share.high:.2f}]".replace("[", "\\[")
