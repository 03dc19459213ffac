"""All commands, each of which is imported when it is run or its own help is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from kinoform.cli.common import EPILOG, Command, Context, add_common
from kinoform.version import __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the list of commands says of one, and under which heading."""

    panel: str
    help: str


VIDEOS, WEIGHTS, MODELS, MACHINE = "Videos", "Weights", "Models", "Before the work"

COMMANDS: Mapping[str, Entry] = {
    "generate": Entry(panel=VIDEOS, help="Make videos from words, images and videos."),
    "animate": Entry(panel=VIDEOS, help="Make a video that begins with an image."),
    "bridge": Entry(panel=VIDEOS, help="Make a video that leads from one image to another."),
    "edit": Entry(
        panel=VIDEOS,
        help="Change what a mask shows white, or a whole video, as the prompt says; the rest stays bit for bit.",
    ),
    "extend": Entry(panel=VIDEOS, help="Make a video longer, after its end or before its beginning."),
    "outpaint": Entry(
        panel=VIDEOS, help="Make a video wider or higher: its surroundings are made, it stays bit for bit."
    ),
    "rerun": Entry(
        panel=VIDEOS, help="Make a video again from its own parameters: on the same machine, the same video."
    ),
    "decode": Entry(panel=VIDEOS, help="Turn kept latents into their video."),
    "info": Entry(panel=VIDEOS, help="Print the parameters that a video carries."),
    "plan": Entry(panel=MACHINE, help="Say what a video would take: tensor shapes, parameters, operations, memory."),
    "doctor": Entry(panel=MACHINE, help="Say what this machine can do."),
    "inspect": Entry(
        panel=WEIGHTS, help="Say what weights are: part, architecture, dialect, storage, sizes, and what is missing."
    ),
    "verify": Entry(panel=WEIGHTS, help="Read every tensor and compare every recorded hash."),
    "convert": Entry(panel=WEIGHTS, help="Write weights in another layout, tensor by tensor."),
    "download": Entry(
        panel=WEIGHTS,
        help="Fetch the files of a model that kinoform needs; a broken download goes on where it stopped.",
    ),
    "evaluate": Entry(
        panel=MODELS,
        help="Measure prompt-following on the world's held-back prompts; the same videos on every machine.",
    ),
    "train": Entry(
        panel=MODELS,
        help="Train autoencoder, text encoder and transformer, one after the other, or an adapter; "
        "Ctrl-C saves and stops.",
    ),
}
"""Each is the function of its name in the module of its name."""


class Commands(TyperGroup):
    """The list of commands, which knows their one-line helps; a command that is asked for is imported."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed if name is None else loaded(name), rest


def function_of(name: str) -> Callable[..., object]:
    return getattr(importlib.import_module(f"kinoform.cli.{name}"), name)


def loaded(name: str) -> TyperCommand:
    """The command itself, with its own options and those that all commands have."""
    alone = typer.Typer(add_completion=False, context_settings=HELP)
    alone.command(name, cls=Command, epilog=EPILOG)(function_of(name))
    command = typer.main.get_command(alone)
    assert isinstance(command, TyperCommand)
    return add_common(command)


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
    """Stands for a command in the list of all; `Commands` runs the real one."""


for _name, _entry in COMMANDS.items():
    app.command(_name, help=_entry.help, rich_help_panel=_entry.panel)(_listed)


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
