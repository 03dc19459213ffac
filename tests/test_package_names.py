"""Names and docstrings: a class name has one meaning in the whole package, and a docstring begins with the thing."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "kinoform"

FORBIDDEN = """
    after and anything as at because before both but by either everything for from how if in into it its like no none
    nothing of on only or such than that there these they this those through to under until what whatever when where
    whether which while who whose why with within without
"""
"""First words with which no docstring begins: it names what the thing is, or what the function does."""


def public(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and docstring of a module and of the public classes and functions in it, methods included."""
    if text := ast.get_docstring(tree):
        yield 1, text
    nodes: list[ast.AST] = [tree]
    while nodes:
        for node in ast.iter_child_nodes(nodes.pop()):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                nodes.append(node)
                if text := ast.get_docstring(node):
                    yield node.lineno, text


def test_a_class_name_has_one_meaning():
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py"))
    classes = (node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    counts = Counter(name for name in classes if name[0] != "_")
    assert len(counts) > 300
    assert not [name for name, count in counts.items() if count > 1]


def test_docstrings_begin_with_a_verb_or_the_thing():
    paths = sorted(PACKAGE.rglob("*.py"))
    forbidden = FORBIDDEN.split()
    found = [(path, line, text) for path in paths for line, text in public(ast.parse(path.read_text(encoding="utf-8")))]
    assert len(found) > 1500
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {text.splitlines()[0]}"
        for path, line, text in found
        if text.split()[0].strip("`\"'.,:;()").lower() in forbidden
    ]
    assert not wrong, "\n".join(wrong)
