"""All commands; importing this imports PyTorch."""

from __future__ import annotations

import typer

from kinoform.cli.decode import decode
from kinoform.cli.evaluate import evaluate
from kinoform.cli.generate import generate
from kinoform.cli.info import info
from kinoform.cli.train import train
from kinoform.version import __version__

app = typer.Typer(
    name="kinoform",
    help="Films from words. `kinoform generate PROMPT` makes one with the embedded model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (generate, decode, info, evaluate, train):
    app.command()(command)


def _version(shown: bool) -> bool:
    if shown:
        typer.echo(f"kinoform {__version__}")
        raise typer.Exit
    return shown


@app.callback()
def common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Films from words. `kinoform generate PROMPT` makes one with the embedded model."""
