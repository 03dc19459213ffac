"""`kinoform evaluate`: how often films show what their prompts say."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kinoform import evaluate as skill
from kinoform.cli import console
from kinoform.cli.options import solver_named
from kinoform.recipes.load import load


def evaluate(
    model: Annotated[str, typer.Argument(help="The model to judge.")] = "mini",
    count: Annotated[int, typer.Option(help="Films per split.")] = 200,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance.")] = None,
    shift: Annotated[float | None, typer.Option(help="Shift of the noise levels.")] = None,
    solver: Annotated[str | None, typer.Option(help="unipc, dpm++ or euler.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="The whole result as one JSON object.")] = False,
) -> None:
    """Measure prompt-following on the world's held-back prompts; the same films on every machine."""
    pipeline = load(model, device=device, dtype=dtype)
    with Progress(console=Console(stderr=True)) as progress:
        tasks = {}

        def tell(split: str, done: int, total: int) -> None:
            if split not in tasks:
                tasks[split] = progress.add_task(f"{split} prompts", total=total)
            progress.update(tasks[split], completed=done)

        found = skill.evaluate(
            pipeline, count=count, tell=tell,
            steps=steps, guidance=guidance, shift=shift, solver=solver_named(solver),
        )  # fmt: skip
    if as_json:
        console.result("", found.as_json(), as_json=True)
        return
    print_table(found)


def print_table(found: skill.Evaluation) -> None:
    """Shares with the 95 % Wilson interval; the table is the result, so it goes to stdout."""
    table = Table(title=f"{found.model} {found.fingerprint}: films that show what was asked")
    for heading in ("", *(split.split for split in found.splits), "codec ceiling", "chance"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name in skill.ATTRIBUTES:
        cells = [_cell(split.skill[name]) for split in found.splits]
        ceiling = [split.ceiling[name] for split in found.splits]
        both = sum(share.right for share in ceiling) / sum(share.trials for share in ceiling)
        table.add_row(name.replace("_", " "), *cells, f"{both:.2f}", f"{found.chance[name]:.3f}")
    table.add_row("binding error", *(_cell(split.binding_error) for split in found.splits), "", "")
    table.add_row("seconds a film", *(f"{split.seconds_per_film:.2f}" for split in found.splits), "", "")
    Console(file=sys.stdout).print(table)


def _cell(share: skill.Share) -> str:
    return f"{share.share:.2f} [{share.low:.2f}, {share.high:.2f}]".replace("[", "\\[")
