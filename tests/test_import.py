"""The package from outside: what an import costs, and rules for its source text."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kinoform

PACKAGE = Path(kinoform.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "numpy", "av", "typer", "rich", "PIL", "safetensors", "tokenizers", "einops", "jaxtyping"}


@pytest.mark.parametrize("module", ["kinoform", "kinoform.api", "kinoform.mini"])
def test_importing_loads_nothing_heavy(module: str):
    """In a fresh process: neither a library, nor any part of the package but its root and its version."""
    script = f"import sys; before = set(sys.modules); import {module}; print(*sorted(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "kinoform" in loaded
    assert {name for name in loaded if name.split(".")[0] in HEAVY} == set()
    assert {name for name in loaded if name.startswith("kinoform.")} <= {"kinoform.version", "kinoform.lazy", module}


def test_what_completion_asks_for_is_all_there_and_loads_nothing():
    script = "import sys, kinoform; print(*dir(kinoform)); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names, modules = (set(line.split()) for line in run.stdout.splitlines())
    assert {*vars(kinoform)["__all__"], "__version__", "__doc__"} <= names
    assert {name for name in modules if name.split(".")[0] in HEAVY} == set()


def test_the_version_is_known_and_unknown_names_are_refused():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", kinoform.__version__)
    with pytest.raises(AttributeError, match="flim"):
        getattr(kinoform, "flim")  # noqa: B009


def test_no_source_file_is_longer_than_400_lines():
    assert len(SOURCES) > 50
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def unsafe_loads(source: str) -> list[int]:
    """Lines of calls of `torch.load`, under any alias, without a literal weights_only=True."""
    tree = ast.parse(source)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "torch"
        for alias in node.names
        if alias.name == "load"
    }
    torches = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "torch"
    }
    wanted = imported | {f"{name}.load" for name in torches}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in wanted
        and not any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
    ]


def test_no_file_is_unpickled():
    assert {str(path.relative_to(PACKAGE)): unsafe_loads(path.read_text()) for path in SOURCES} == {
        str(path.relative_to(PACKAGE)): [] for path in SOURCES
    }


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import torch\ntorch.load(path)", [2]),
        ("import torch as t\nt.load(path, weights_only=False)", [2]),
        ("from torch import load as read\nread(path)", [2]),
        ("import torch\ntorch.load(path, weights_only=True)", []),
        ("import torch, json\njson.load(path)", []),
    ],
)
def test_the_rule_itself_can_fail(source: str, lines: list[int]):
    assert unsafe_loads(source) == lines
