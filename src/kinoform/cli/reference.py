"""The reference of the command line, written from the program: python -m kinoform.cli.reference > docs/cli.md"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, TypeAlias

from typer.core import TyperCommand

from kinoform.cli.command_list import COMMANDS
from kinoform.cli.commands import loaded
from kinoform.cli.common import COMMON
from kinoform.cli.settings import SETTINGS

Parameter: TypeAlias = Any
"""The parser's option or argument; its class is public under another name in each version of typer."""

HEAD = """# kinoform: the reference

Written by `python -m kinoform.cli.reference > docs/cli.md`; do not edit. What options mean at length, and their names
elsewhere, stands in [command-line.md](command-line.md); what programs read, in [json.md](json.md).

```
kinoform [--version] [-h] [--install-completion] [--show-completion] COMMAND ...
```
"""

TAIL = """## In every command

Each command has these, and `-h`, `--help`.
"""


def reference() -> str:
    """Return the page as Markdown: one section per command, in the order of `kinoform --help`."""
    commands = {entry.name: loaded(entry.name) for entry in COMMANDS}
    contents = [f"| [`{entry.name}`](#{entry.name}) | {entry.help} |" for entry in COMMANDS]
    sections = [line for name, command in commands.items() for line in _section(name, command)]
    common = [_row(parameter) for parameter in commands["generate"].params if parameter.name in COMMON]
    head = [HEAD, "| command | |", "|---|---|", *contents, ""]
    return "\n".join([*head, *sections, TAIL, *TABLE, *common]) + "\n"


TABLE = ("| option | meaning | default | also set by |", "|---|---|---|---|")


def _section(name: str, command: TyperCommand) -> Iterator[str]:
    own = [parameter for parameter in command.params if parameter.name not in COMMON]
    words = [_argument(parameter) for parameter in own if parameter.param_type_name == "argument"]
    yield f"## {name}\n\n```\nkinoform {' '.join([name, *words, '[OPTIONS]'])}\n```\n"
    yield f"{_line(command.help)}\n"
    yield from TABLE
    yield from (_row(parameter) for parameter in own)
    yield ""


def _row(parameter: Parameter) -> str:
    cells = (f"`{_spelling(parameter)}`", _line(parameter.help), _default(parameter), _elsewhere(parameter))
    return f"| {' | '.join(cells)} |"


def _spelling(parameter: Parameter) -> str:
    if parameter.param_type_name == "argument":
        return _argument(parameter)
    words = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return words if parameter.is_flag else f"{words} {str(parameter.name).upper()}"


def _argument(parameter: Parameter) -> str:
    word = str(parameter.name).upper()
    return word if parameter.required else f"[{word}]"


def _default(parameter: Parameter) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.default in (None, "") or parameter.required:
        return ""
    return ("on" if parameter.default else "off") if isinstance(parameter.default, bool) else f"`{parameter.default}`"


def _elsewhere(parameter: Parameter) -> str:
    if parameter.envvar is None:
        return ""
    return f"`{parameter.envvar}`" + (", file" if SETTINGS[parameter.name][1].in_file else "")


def _line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
