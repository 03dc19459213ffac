"""All commands, each of which is imported when it is run or its own help is asked for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from kinoform.cli.command_list import COMMANDS, entry_of
from kinoform.cli.common import EPILOG, Command, Context, add_common
from kinoform.cli.options import settings_of
from kinoform.version import __version__


class Commands(TyperGroup):
    """The list of commands, which knows their one-line helps; a command that is asked for is imported."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed if name is None else loaded(name), rest


def function_of(name: str) -> Callable[..., object]:
    """Import the function of a command."""
    return getattr(importlib.import_module(f"kinoform.cli.{entry_of(name).module or name}"), name)


def loaded(name: str) -> Command:
    """Return the command with its own options and those that all commands have."""
    alone = typer.Typer(add_completion=False, context_settings=HELP)
    alone.command(name, cls=Command, epilog=EPILOG)(function_of(name))
    command = typer.main.get_command(alone)
    assert isinstance(command, Command)
    heeded = settings_of(inspect.signature(function_of(name)).parameters.values())
    return add_common(command, heeded if entry_of(name).heeds_settings else {})


HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="kinoform",
    cls=Commands,
    help="Videos from words. `kinoform generate PROMPT` makes one with the embedded model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)


def _listed() -> None:
    """Stand for a command in the list; `Commands` runs the real one."""


for _entry in COMMANDS:
    app.command(_entry.name, help=_entry.help, rich_help_panel=_entry.panel)(_listed)


def _version(shown: bool) -> bool:
    if shown:
        typer.echo(f"kinoform {__version__}")
        raise typer.Exit
    return shown


@app.callback()
def common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Videos from words. `kinoform generate PROMPT` makes one with the embedded model."""
