"""Writes docs/api.md from the tables of public names: python docs/api_page.py > docs/api.md."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import kinoform
from kinoform import api, mini

SOURCE = Path(__file__).parents[1] / "src"
MODULES = {"kinoform": kinoform.PUBLIC, "kinoform.api": api.PUBLIC, "kinoform.mini": mini.PUBLIC}
INTRODUCTIONS = {
    "kinoform": "What makes and edits videos.",
    "kinoform.api": "What recipes, conditioners, models, solvers, trainings and evaluations are built with.",
    "kinoform.mini": "The embedded models, their trainings, and the world of drawn shapes that these learn from.",
}

HEAD = """# Public names

Written by `python docs/api_page.py > docs/api.md`; do not edit.

Programs and ideas import from these modules alone: the names stay when the files behind them are moved. Importing the
modules loads nothing; a name is loaded when it is first asked for.
"""

DECORATIONS = {"property", "classmethod", "staticmethod"}


@dataclass(frozen=True, kw_only=True)
class PublicName:
    """A name, the module that defines it, and what stands there; `doc` is "" where nothing does."""

    name: str
    module: str
    kind: str
    signature: str
    doc: str


def names(public: Mapping[str, Mapping[str, str]]) -> dict[str, list[PublicName]]:
    """Return all names of a table, by group. Raises KeyError for a name that its module does not define."""
    return {
        group: [_definitions(module)[name] for module, words in owners.items() for name in words.split()]
        for group, owners in public.items()
    }


def page() -> str:
    """Return the page of all names."""
    return HEAD + "".join(_section(module, public) for module, public in MODULES.items())


def _section(module: str, public: Mapping[str, Mapping[str, str]]) -> str:
    groups = "".join(f"\n### {group}\n" + "".join(map(_entry, entries)) for group, entries in names(public).items())
    return f"\n## {module}\n\n{INTRODUCTIONS[module]}\n{groups}"


def _entry(entry: PublicName) -> str:
    return (
        f"\n**`{entry.name}`**, {entry.kind} in `{entry.module}`\n\n```python\n{entry.signature}\n```\n\n{entry.doc}\n"
    )


@cache
def _definitions(module: str) -> dict[str, PublicName]:
    """Return all that a module defines, by name."""
    path = SOURCE.joinpath(*module.split("."))
    file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
    body = ast.parse(file.read_text(encoding="utf-8")).body
    found = {}
    for node, behind in zip(body, [*body[1:], None], strict=True):
        for name, kind, signature, doc in _defined(node, behind):
            text = " ".join(doc.partition("\n\n")[0].split())
            found[name] = PublicName(name=name, module=module, kind=kind, signature=signature, doc=text)
    return found


def _defined(node: ast.stmt, behind: ast.stmt | None) -> Iterator[tuple[str, str, str, str]]:
    """Yield the name, kind, signature and docstring of a definition; an assignment's text is the string behind it."""
    if isinstance(node, ast.FunctionDef):
        yield node.name, "function", _call(node), ast.get_docstring(node) or ""
    elif isinstance(node, ast.ClassDef):
        yield node.name, _kind(node), _class(node), ast.get_docstring(node) or ""
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        alias = isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias"
        text = _text(behind) or _help(node.value)
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                kind, value = ("type", ast.unparse(node.value)) if alias else ("value", _short(node.value))
                yield target.id, kind, f"{target.id} = {value}", text


def _kind(node: ast.ClassDef) -> str:
    bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
    if "Protocol" in bases:
        return "protocol"
    if _is_dataclass(node):
        return "dataclass"
    return "named tuple" if "NamedTuple" in bases else "class"


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any(ast.unparse(item).startswith("dataclass") for item in node.decorator_list)


def _class(node: ast.ClassDef) -> str:
    """Return a class as a stub: its fields, properties, and public methods."""
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    lines = [f"class {node.name}({bases}):" if bases else f"class {node.name}:"]
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not ast.unparse(item.target).startswith("_"):
            default = "" if item.value is None else f" = {_short(item.value)}"
            lines.append(f"    {ast.unparse(item.target)}: {ast.unparse(item.annotation)}{default}")
        elif isinstance(item, ast.FunctionDef) and (item.name[0] != "_" or item.name in ("__init__", "__call__")):
            decorations = [name for name in map(ast.unparse, item.decorator_list) if name in DECORATIONS]
            if "property" in decorations and item.returns is not None:
                lines.append(f"    {item.name}: {ast.unparse(item.returns)}  # property")
            else:
                lines += [f"    @{name}" for name in decorations]
                lines.append(f"    def {_call(item)}: ...")
    return "\n".join(lines if len(lines) > 1 else [f"{lines[0]} ..."])


def _call(node: ast.FunctionDef) -> str:
    returns = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    return f"{node.name}({ast.unparse(node.args)}){returns}"


def _short(value: ast.expr) -> str:
    """Return a value as it is written; a call of many arguments by its name."""
    text = ast.unparse(value)
    return text if len(text) <= 60 or not isinstance(value, ast.Call) else f"{ast.unparse(value.func)}(...)"


def _text(node: ast.stmt | None) -> str:
    constant = node.value if isinstance(node, ast.Expr) else None
    return constant.value if isinstance(constant, ast.Constant) and isinstance(constant.value, str) else ""


def _help(value: ast.expr) -> str:
    """Return the `help` of an input's declaration, which stands for its docstring."""
    given = [item.value for item in value.keywords if item.arg == "help"] if isinstance(value, ast.Call) else []
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else ""


if __name__ == "__main__":
    print(page(), end="")
