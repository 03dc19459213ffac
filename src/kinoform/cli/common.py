"""Options that all commands have: settings from elsewhere, a log, and events for programs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias

import typer
from typer.core import TyperCommand

from kinoform.cli import console
from kinoform.cli.events import Finished, RunLog, Started
from kinoform.cli.model_files import folded
from kinoform.cli.option_groups import CommonOptions
from kinoform.cli.options import Setting, command, settings_of
from kinoform.cli.settings import SETTINGS, settings_file, settings_in, variable
from kinoform.errors import UsageError
from kinoform.version import __version__

LOGGED = {name for name, (_, mark) in SETTINGS.items() if not mark.private} | {"seed", "count", "force"}
"""Options in the event of a start: none that holds a prompt or may be named after one."""

RIVALS = ("frames", "seconds")
"""Two options that say the same thing."""

ONE_FILE = ("--image", "--last-image", "--video", "--mask")
"""Inputs that are one file."""

RANKS = ("DEFAULT", "DEFAULT_MAP", "ENVIRONMENT", "COMMANDLINE")
"""The parser's names for where a value comes from, the weakest first: default, file, environment, flag."""


Context: TypeAlias = Any
"""The parser's context of a run; its class is public under another name in each version of typer."""


class Command(TyperCommand):
    """Command that handles the common options around its own work, and reads the settings that it has options for."""

    settings: Mapping[str, tuple[type, Setting]] = {}

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        try:
            _check_once(args)
            return super().parse_args(ctx, folded(args))
        except Exception as error:
            option = getattr(error, "param", None)  # which the parser's own errors name
            if option is not None and _origin(ctx, option.name) == "ENVIRONMENT":
                console.note(f"set elsewhere: {option.name} by {option.envvar}")
            raise

    def invoke(self, ctx: Context) -> object:
        file, log, prompts, _, shown = (ctx.params.pop(item) for item in COMMON)
        _settle(ctx)
        if shown:
            return _show(ctx, file)
        if log is not None:
            console.listen(RunLog(log, None if prompts else console.private))
        start = monotonic()
        console.emit(Started(command=str(ctx.info_name), version=__version__, options=_options(ctx)))

        def finished(code: int) -> None:
            console.emit(Finished(exit_code=code, seconds=round(monotonic() - start, 3)))

        try:
            value = super().invoke(ctx)
        except typer.Exit as ended:
            finished(ended.exit_code)
            raise
        except UsageError:
            _blame(ctx, file)
            raise
        finished(value if isinstance(value, int) else 0)
        return value


def _check_once(words: Sequence[str]) -> None:
    """Raise UsageError for an input of one file that is given twice, of which the parser would drop the first."""
    options = [word.partition("=")[0] for word in words[: words.index("--") if "--" in words else None]]
    if twice := next((option for option in ONE_FILE if options.count(option) > 1), None):
        raise UsageError(
            f"{twice} is given {options.count(twice)} times, and takes one file; several images are given as "
            "--frame NUMBER=IMAGE, by their frames, or as --reference IMAGE",
            code="said_twice",
        )


def add_common(program: Command, settings: Mapping[str, tuple[type, Setting]]) -> Command:
    """Add the common options to a command, and to its settings their environment variables."""
    shared = typer.Typer(add_completion=False)
    shared.command()(_common)
    common = typer.main.get_command(shared).params
    program.params += common
    program.settings = settings
    everywhere = settings_of(inspect.signature(_common).parameters.values())
    for option in program.params:
        if option.name in settings or (option in common and option.name in everywhere):
            option.envvar = variable(option.name)
            option.show_envvar = False  # type: ignore[attr-defined]
        if option in common and option.name == "config":
            option.callback = lambda ctx, _, given: _configure(ctx, given)
    return program


def _configure(ctx: Context, given: Path | None) -> Path | None:
    """Set the defaults of the options from the settings file, and return its path."""
    if ctx.resilient_parsing:  # while completing, where a mistake in a file must not be shown
        return given
    file = settings_file(given)
    if file is not None:
        ctx.default_map = settings_in(file, str(ctx.info_name), ctx.command.settings)
    return file


EPILOG = "What an option leaves open, KINOFORM_OPTION in the environment or option = VALUE in kinoform.toml may say."
COMMON = tuple(field.name for field in fields(CommonOptions))
"""The names of the options that every command has."""


@command
def _common(common: CommonOptions) -> None:
    """The options that all commands have."""


def _origin(ctx: Context, name: str) -> str:
    """Return where a value comes from: one of RANKS."""
    source = ctx.get_parameter_source(name)
    return RANKS[0] if source is None or source.name not in RANKS else source.name


def _settle(ctx: Context) -> None:
    """Keep the stronger of two options that say the same thing, by where they come from."""
    if any(ctx.params.get(name) is None for name in RIVALS):
        return
    weaker, stronger = sorted(RIVALS, key=lambda name: RANKS.index(_origin(ctx, name)))
    if _origin(ctx, weaker) != _origin(ctx, stronger):
        ctx.params[weaker] = None


def _options(ctx: Context) -> dict[str, object]:
    given = (name for name in sorted(LOGGED & ctx.params.keys()) if _origin(ctx, name) != RANKS[0])
    return {name: _plain(ctx.params[name]) for name in given}


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _where(ctx: Context, name: str, file: Path | None) -> str:
    origin = _origin(ctx, name)
    if origin == "DEFAULT":
        return "recipe" if SETTINGS[name][1].from_recipe and ctx.params[name] is None else "default"
    return {"DEFAULT_MAP": str(file), "ENVIRONMENT": variable(name), "COMMANDLINE": "flag"}[origin]


def _show(ctx: Context, file: Path | None) -> None:
    """Print every setting of the command, with its value and where that comes from."""
    names = [name for name in SETTINGS if name in ctx.command.settings]
    data = {name: {"value": _plain(ctx.params[name]), "from": _where(ctx, name, file)} for name in names}
    width = max(map(len, names), default=0)
    lines = (f"{name:<{width}}  {_shown(item['value']):<20}  {item['from']}" for name, item in data.items())
    console.result("\n".join(lines), data, as_json=bool(ctx.params.get("as_json")))


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _blame(ctx: Context, file: Path | None) -> None:
    """Note the settings that do not come from flags before an error is shown, since the fault may be there."""
    names = [name for name in SETTINGS if name in ctx.params and _origin(ctx, name) in RANKS[1:3]]
    if names:
        console.note("set elsewhere: " + ", ".join(f"{name} by {_where(ctx, name, file)}" for name in names))
