"""Benchmarks measure the product: models are those of the loader, and rows that say nothing are left out."""

import ast
from pathlib import Path

import pytest
import torch

from kinoform.models.vae import VAESpec
from kinoform.ops import cpu

FOLDER = Path(__file__).parents[1] / "benchmarks"
RAN = ("cases.py", "fresh.py", "pairs.py", "schemes.py")


@pytest.mark.parametrize("name", RAN)
def test_a_model_that_is_built_goes_through_the_loader(name: str) -> None:
    """Models that `build` returns are filled or drawn under a name, and those run that `loaded` or `read` return."""
    tree = ast.parse((FOLDER / name).read_text())
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        called = [
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for node in ast.walk(function)
            if isinstance(node, ast.Call)
        ]
        if "build" in called:
            assert {"loaded", "read", "write"} & set(called), f"{name}: {function.name}"


def test_the_loader_gives_the_same_weights_in_its_own_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from loaded import loaded

    spec = VAESpec(dim=2)
    drawn = spec.build()
    found = loaded(spec.build, drawn)
    for (name, weight), (other, wanted) in zip(found.named_parameters(), drawn.named_parameters(), strict=True):
        assert name == other and torch.equal(weight, wanted) and weight.is_contiguous()


@pytest.mark.parametrize("units", [{}, {"avx512_bf16": True}, {"amx_bf16": True}, {"bf16": True}], ids=str)
def test_rows_in_a_dtype_that_is_emulated_are_left_out_by_name(
    units: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.syspath_prepend(str(FOLDER))
    import cases
    import run

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    cpu.emulates.cache_clear()
    try:
        found = cases.left_out(run.PLANS["small"])
        assert cases.measured() == ((torch.float32, torch.bfloat16) if units else (torch.float32,))
    finally:
        cpu.emulates.cache_clear()
    assert found == ([] if units else ["transformer 1.3B width, bf16", "transformer dim 512, bf16", "video, bf16"])


def test_a_bounded_command_ends_with_its_status_or_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import bounded

    assert bounded.main(60, "exit 3") == 3
    assert bounded.main(0.1, "sleep 60") == 124
