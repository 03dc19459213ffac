"""Names and docstrings: a class name has one meaning in the whole package, and a docstring begins with the thing."""

import ast
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "kinoform"
FOLDERS = (PACKAGE, ROOT / "benchmarks", ROOT / "examples")

FORBIDDEN = """
    after and anything as at because before both but by either everything for from how if in into it its like no none
    nothing of on only or such than that there these they this those through to under until what whatever when where
    whether which while who whose why with within without
"""
"""First words with which no docstring begins: it names what the thing is, or what the function does."""


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and docstring of a module, of its classes and functions, private ones too, and of constants."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if text := ast.get_docstring(node):
            yield getattr(node, "lineno", 1), text
        for before, after in pairwise(node.body):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))) if isinstance(before, ast.Assign | ast.AnnAssign):
                    yield after.lineno, text


def test_a_class_name_has_one_meaning():
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py"))
    classes = (node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    counts = Counter(name for name in classes if name[0] != "_")
    assert len(counts) > 300
    assert not [name for name, count in counts.items() if count > 1]


def test_docstrings_begin_with_a_verb_or_the_thing():
    paths = [path for folder in FOLDERS for path in sorted(folder.rglob("*.py"))]
    forbidden = FORBIDDEN.split()
    every = [(path, *item) for path in paths for item in docstrings(ast.parse(path.read_text(encoding="utf-8")))]
    assert len(every) > 2500
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path, line, text in every
        if text.split()[0].strip("`\"'.,:;()").lower() in forbidden
    ]
    assert not wrong, "\n".join(wrong)
