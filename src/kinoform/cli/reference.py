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
    """The whole page as Markdown: one section a command, in the order of `kinoform --help`."""
    commands = {entry.name: loaded(entry.name) for entry in COMMANDS}
    contents = [f"| [`{entry.name}`](#{entry.name}) | {entry.help} |" for entry in COMMANDS]
    sections = [line for name, command in commands.items() for line in _section(name, command)]
    common = [_row(each) for each in commands["generate"].params if each.name in COMMON]
    head = [HEAD, "| command | |", "|---|---|", *contents, ""]
    return "\n".join([*head, *sections, TAIL, *TABLE, *common]) + "\n"


TABLE = ("| option | meaning | default | also set by |", "|---|---|---|---|")


def _section(name: str, command: TyperCommand) -> Iterator[str]:
    own = [each for each in command.params if each.name not in COMMON]
    words = [_argument(each) for each in own if each.param_type_name == "argument"]
    yield f"## {name}\n\n```\nkinoform {' '.join([name, *words, '[OPTIONS]'])}\n```\n"
    yield f"{_line(command.help)}\n"
    yield from TABLE
    yield from (_row(each) for each in own)
    yield ""


def _row(each: Parameter) -> str:
    cells = (f"`{_spelling(each)}`", _line(each.help), _default(each), _elsewhere(each))
    return f"| {' | '.join(cells)} |"


def _spelling(each: Parameter) -> str:
    if each.param_type_name == "argument":
        return _argument(each)
    words = ", ".join([*each.opts, *each.secondary_opts])
    return words if each.is_flag else f"{words} {str(each.name).upper()}"


def _argument(each: Parameter) -> str:
    word = str(each.name).upper()
    return word if each.required else f"[{word}]"


def _default(each: Parameter) -> str:
    if isinstance(each.show_default, str):
        return each.show_default
    if each.default in (None, "") or each.required:
        return ""
    return ("on" if each.default else "off") if isinstance(each.default, bool) else f"`{each.default}`"


def _elsewhere(each: Parameter) -> str:
    if each.envvar is None:
        return ""
    return f"`{each.envvar}`" + (", file" if SETTINGS[each.name][1].in_file else "")


def _line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
