"""Write the table of docs/inputs.md anew from the fields that declare the inputs: `python docs/inputs_table.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kinoform.conditions.inputs import InputField
from kinoform.conditions.standard_inputs import STANDARD_INPUTS
from kinoform.recipes.catalogue import takers

PAGE = Path(__file__).parent / "inputs.md"
HEAD = ("| option | Python | takes it | what it does |", "|---|---|---|---|")


def rows(item: InputField[Any]) -> Iterator[tuple[str, str, str]]:
    """Yield option, keyword and help of a field and of its parts."""
    for name, (_, help) in item.kind.shorthands.items():
        yield f"`--{name.replace('_', '-')} FILE`", f"`{name}=`", help
    value = "" if item.kind.option is bool else f" {item.kind.noun.upper()}"
    often = ", again and again" if item.kind.repeatable else ""
    yield f"`--{item.key.replace('_', '-')}{value}`{often}", f"`{item.name}=`", item.help


def table() -> str:
    """Return the table in Markdown."""
    lines = [
        f"| {option} | {keyword} | {', '.join(takers(item))} | {help} |"
        for item in STANDARD_INPUTS
        for option, keyword, help in rows(item)
    ]
    return "\n".join([*HEAD, *lines])


def written(page: str) -> str:
    """Return the page with the table in the place of the one it has."""
    before, _, rest = page.partition(HEAD[0])
    behind = rest[rest.index("\n\n") :]
    return before + table() + behind


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
