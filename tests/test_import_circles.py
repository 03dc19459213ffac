"""Files do not import each other in a circle, not even for types; what a function imports when it runs is left out."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import kinoform

ROOT = Path(kinoform.__file__).parent


def imported(path: Path, names: frozenset[str]) -> Iterator[str]:
    """Modules of the package that a file imports, outside its functions."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in (*body, *(inner for each in body if isinstance(each, ast.If) for inner in each.body)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in (*inner, node.module) if name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)


def test_no_files_import_each_other_in_a_circle() -> None:
    files = {
        ".".join(("kinoform", *path.relative_to(ROOT).with_suffix("").parts)): path
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py"
    }
    names = frozenset(files)
    graph = {name: set(imported(path, names)) - {name} for name, path in files.items()}
    assert sum(map(len, graph.values())) > len(files), "imports are found"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(f"imported in a circle: {' > '.join(error.args[1])}") from None
