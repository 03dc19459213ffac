"""Writes docs/errors.md from the source: python docs/error_codes.py > docs/errors.md; --missing lists the rest."""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kinoform import errors
from kinoform.cli.app import PARSING

ROOT = Path(__file__).parents[1]
OF_CLASSES = {
    "KinoformError": "an error that names no other code",
    "UsageError": "a request that cannot be carried out as written, where no other code is named",
    "WeightsError": "weights that are missing, damaged, or of another model, where no other code is named",
    "FitError": "the request does not fit this machine",
    "NonFiniteError": "a tensor holds NaN or infinity",
    "Interrupted": "the user, or a callback, ended the work early",
}

CLASSES = {name: getattr(errors, name) for name in OF_CLASSES} | {"UnsupportedFile": errors.UsageError}
"""Errors by the name they are raised by; media's UnsupportedFile becomes a UsageError in the process that asked."""

NONE, HANDED_ON = "", "(handed on)"

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
    """A place that makes an error of one code; a place that may give two codes stands twice."""

    place: str
    kind: str
    code: str
    says: str


def codes(root: Path) -> list[Raised]:
    """All codes below a folder, place by place; those of the classes and of the command-line parser first."""
    own = [
        Raised(place="errors.py", kind=each.__name__, code=each.code, says=OF_CLASSES[name])
        for name, each in CLASSES.items()
        if name in OF_CLASSES
    ]
    parser = [
        Raised(place="cli/app.py", kind="UsageError", code=code, says="the sentence of the command-line parser")
        for code in sorted(set(PARSING.values()))
    ]
    return own + parser + [each for each in _raised(root) if each.code not in (NONE, HANDED_ON)]


def missing(root: Path) -> list[str]:
    """Places that make an error without a code."""
    return [f"{each.place}: {each.kind}: {each.says}" for each in _raised(root) if each.code == NONE]


def page() -> str:
    """The page of all codes."""
    found: dict[str, list[Raised]] = defaultdict(list)
    for each in codes(ROOT / "src"):
        found[each.code].append(each)
    return HEAD + "".join(_row(code, places) for code, places in sorted(found.items()))


def _raised(root: Path) -> Iterator[Raised]:
    trees = {path: ast.parse(path.read_text()) for path in sorted(root.rglob("*.py"))}
    texts = _texts(trees.values())
    for path, tree in trees.items():
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not (node.args or node.keywords):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name not in CLASSES:
                continue
            given = next((each.value for each in node.keywords if each.arg == "code"), None)
            says = _sentence(node.args[0], texts) if node.args else ""
            says = f"{{name}} {says}" if name == "UnsupportedFile" else says
            for code in _codes(given):
                yield Raised(place=f"{shown}:{node.lineno}", kind=CLASSES[name].__name__, code=code, says=says)


def _codes(value: ast.expr | None) -> Iterator[str]:
    """The literals that a code may be; a name or an attribute hands on what another place gave."""
    if value is None:
        yield NONE
    elif isinstance(value, ast.Constant):
        yield str(value.value)
    elif isinstance(value, ast.IfExp):
        yield from _codes(value.body)
        yield from _codes(value.orelse)
    else:
        yield HANDED_ON


def _texts(trees: Iterable[ast.Module]) -> dict[str, str]:
    """The constants of modules that are texts, by name, where all modules that have one mean the same."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in (each for tree in trees for each in tree.body if isinstance(each, ast.Assign)):
        for target in node.targets:
            if isinstance(target, ast.Name):
                found[target.id].add(str(node.value.value) if isinstance(node.value, ast.Constant) else "")
    return {
        name: "".join(values) for name, values in found.items() if len(values) == 1 and any(values) and name.isupper()
    }


def _sentence(value: ast.expr, texts: Mapping[str, str]) -> str:
    text = ast.unparse(value)
    if isinstance(value, ast.JoinedStr):
        text = "".join(
            str(each.value) if isinstance(each, ast.Constant) else _short(each, texts) for each in value.values
        )
    elif isinstance(value, ast.Constant):
        text = str(value.value)
    return " ".join(text.split())


def _short(value: ast.expr, texts: Mapping[str, str]) -> str:
    """The text of a constant; else the last name in an expression, which tells more than the whole, in braces."""
    text = ast.unparse(value.value if isinstance(value, ast.FormattedValue) else value)
    if text in texts:
        return texts[text]
    if text.startswith("nearest("):
        return "did you mean {nearest}"
    names = re.findall(r"[A-Za-z_]\w*", text) or ["..."]
    return "{" + next((name for name in reversed(names) if not name.isupper()), names[-1]) + "}"


def _row(code: str, places: list[Raised]) -> str:
    kind = getattr(errors, places[0].kind)
    # A sentence of middling length tells the fault; names of variables and very long ones do not.
    says = max((each.says for each in places), key=lambda text: (" " in text, -abs(len(text) - 100), text))
    return f"| `{code}` | {places[0].kind} | {kind.exit_code} | {says.replace('|', chr(92) + '|')} |\n"


if __name__ == "__main__":
    if "--missing" in sys.argv:
        sys.exit("\n".join(missing(Path(sys.argv[-1]).resolve() if sys.argv[-1] != "--missing" else ROOT / "src")) or 0)
    print(page(), end="")
