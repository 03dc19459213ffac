"""Writes docs/errors.md from the source: python docs/error_codes.py > docs/errors.md; --missing lists the rest."""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kinoform import errors

ROOT = Path(__file__).parents[1]
CLASSES = {name: each for name, each in vars(errors).items() if isinstance(each, type)} | {"Refused": errors.UsageError}
"""Errors by the name they are raised by; media's Refused becomes a UsageError in the process that asked."""

HEAD = """# Errors

Written by `python docs/error_codes.py > docs/errors.md`; do not edit.

Every error has a `code`, in Python (`error.code`) and in JSON ([json.md](json.md)): it names the fault and stays when
the sentence is written anew. One code belongs to one class, and with it to one exit code of the command line. What
stands in braces is filled in; where several places refuse for one reason, one of their sentences stands for all.

| code | class | exit | says, for example |
|---|---|---|---|
"""


@dataclass(frozen=True, kw_only=True)
class Raised:
    """A place in the source that makes an error; `codes` are the literals it may have, none if it has none."""

    place: str
    kind: str
    codes: tuple[str, ...]
    says: str


def raised(root: Path) -> Iterator[Raised]:
    """All places below a folder that make an error, in the order of files and lines."""
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not (node.args or node.keywords):
                continue
            kind = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if kind not in CLASSES:
                continue
            given = next((each.value for each in node.keywords if each.arg == "code"), None)
            says = _sentence(node.args[0]) if node.args else ""
            place = f"{path.relative_to(ROOT)}:{node.lineno}"
            yield Raised(place=place, kind=CLASSES[kind].__name__, codes=tuple(_codes(given)), says=says)


def page() -> str:
    """The page of all codes: those of classes, of the parser, and those that the source gives."""
    found: dict[str, list[Raised]] = defaultdict(list)
    for each in raised(ROOT / "src"):
        for code in each.codes:
            if code != HANDED_ON:
                found[code].append(each)
    rows = [_row(code, places) for code, places in sorted(found.items())]
    return HEAD + "\n".join(rows) + "\n"


def missing(root: Path) -> list[str]:
    """Places that make an error without a code."""
    return [f"{each.place}: {each.kind}: {each.says}" for each in raised(root) if not each.codes]


def _codes(value: ast.expr | None) -> Iterator[str]:
    """The literals that a code may be; a name or attribute hands on a code that another place gave."""
    if isinstance(value, ast.Constant):
        yield str(value.value)
    elif isinstance(value, ast.IfExp):
        yield from _codes(value.body)
        yield from _codes(value.orelse)
    elif value is not None:
        yield HANDED_ON


HANDED_ON = "(handed on)"


def _sentence(value: ast.expr) -> str:
    text = ast.unparse(value)
    if isinstance(value, ast.JoinedStr):
        text = "".join(
            str(each.value) if isinstance(each, ast.Constant) else "{" + _short(each) + "}" for each in value.values
        )
    elif isinstance(value, ast.Constant):
        text = str(value.value)
    return " ".join(text.split())


def _short(value: ast.expr) -> str:
    """The last name of an expression, which tells more than the whole."""
    text = ast.unparse(value.value if isinstance(value, ast.FormattedValue) else value)
    return (re.findall(r"[A-Za-z_]\w*", text) or ["..."])[-1]


def _row(code: str, places: list[Raised]) -> str:
    kind = getattr(errors, places[0].kind)
    says = max((each.says for each in places), key=lambda text: (" " in text, -abs(len(text) - 100)))
    return f"| `{code}` | {places[0].kind} | {kind.exit_code} | {says.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    if "--missing" in sys.argv:
        sys.exit("\n".join(missing(Path(sys.argv[-1]).resolve() if sys.argv[-1] != "--missing" else ROOT / "src")) or 0)
    print(page(), end="")
