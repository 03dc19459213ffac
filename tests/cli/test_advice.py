"""Advice of messages can be followed: the flags and commands that sentences of the source name are the program's."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kinoform.cli.command_list import COMMANDS
from kinoform.cli.commands import loaded

NAMES = {entry.name for entry in COMMANDS}
SOURCE = Path(__file__).parents[2] / "src" / "kinoform"
STYLE = {"style.py", "page.py", "run_page.py"}
"""Files whose dashes are those of CSS."""

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+|(?<![\w-])-o\b")
COMMAND = re.compile(r"(?:run|with:|it:|first:|`)\s*kinoform ([a-z]+)")
FOREIGN = re.compile(r"pip install.*")
"""A mark from which on the words are those of another program."""

OF_THE_PROGRAM = {"--help", "--version", "--install-completion", "--show-completion"}

LOADING = {"generate", "animate", "bridge", "edit", "extend", "outpaint", "rerun", "decode", "evaluate"}
"""Commands that load a model to make videos."""

WRITING = {*LOADING, "convert", "train"}
"""Commands that write files under names that are given."""

SHARED = {
    "files.py": WRITING,
    "recipes/catalogue.py": LOADING,
    "recipes/load.py": LOADING,
    "loading/lora.py": {*LOADING} - {"decode"},
    "families/released.py": LOADING,
}
"""Files whose sentences every one of these commands may say."""


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A text of the source, without what is filled in, and the commands that may say it; none stands for any."""

    place: str
    text: str
    commands: frozenset[str]

    @property
    def flags(self) -> set[str]:
        return set(FLAG.findall(FOREIGN.sub("", self.text)))

    @property
    def names(self) -> set[str]:
        return set(COMMAND.findall(self.text))


def sentences() -> Iterator[Sentence]:
    """All texts of more than one word that name a flag or a command, but docstrings."""
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        place = path.relative_to(SOURCE)
        silent = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
        silent |= {id(part) for each in ast.walk(tree) if isinstance(each, ast.JoinedStr) for part in each.values}
        own = {path.stem} & NAMES if place.parts[0] == "cli" else SHARED.get(place.as_posix(), set())
        for node in ast.walk(tree):
            text = "" if id(node) in silent or path.name in STYLE else said(node)
            found = Sentence(place=f"{place}:{getattr(node, 'lineno', 0)}", text=text, commands=frozenset(own))
            if " " in text and (found.flags or found.names):
                yield found


def said(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)  # type: ignore[misc]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def options(command: str) -> set[str]:
    """Arguments too, since "pass it as --model" is understood where the model is one."""
    return {f"--{each.name}" for each in loaded(command).params if each.param_type_name == "argument"} | {
        name for each in loaded(command).params for name in (*each.opts, *each.secondary_opts)
    }


OPTIONS = {command: options(command) for command in NAMES}
SENTENCES = list(sentences())


def test_advice_is_found() -> None:
    assert len(SENTENCES) > 80 and sum(bool(each.names) for each in SENTENCES) >= 4


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda each: each.place)
def test_flags_and_commands_that_a_message_names_exist(sentence: Sentence) -> None:
    assert sentence.names <= NAMES
    assert sentence.flags <= OF_THE_PROGRAM.union(*OPTIONS.values())
    for command in sentence.commands:
        missing = sentence.flags - OF_THE_PROGRAM.union(*(OPTIONS[each] for each in {command, *sentence.names}))
        assert not missing, f"kinoform {command} has no {missing}"
