"""Every golden file, judged by its kind; a kind that no judge knows fails, unless it stands in `NOT_BUILT`.

All were recorded from the official code, but that of the factorized model: tests/models/naive_factorized.py wrote it.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.conformance import judges
from tests.conformance.golden import bound_of, distance, golden_files, read
from tests.conformance.judges import JUDGES, NOT_BUILT, is_built


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: path.stem)
def test_equals_the_official_code(path: Path) -> None:
    golden = read(path)
    if not is_built(golden.name):
        pytest.skip(f"not built: {golden.name}")
    assert golden.name in JUDGES, f"no judge knows {golden.name}; write one, or say in NOT_BUILT that it is not built"
    ours = JUDGES[golden.name](golden)
    assert ours.keys() == golden.outputs.keys(), "every recorded tensor is judged"
    failures = []
    for name, theirs in golden.outputs.items():
        bound = bound_of(golden.name, name)
        mine = ours[name]
        if isinstance(mine, list):
            assert len(mine) == len(theirs), f"{name}: {len(mine)} samples of {len(theirs)}"
            gap = max(distance(a, b[: len(a)], bound) for a, b in zip(mine, theirs, strict=True))
        else:
            gap = distance(mine, theirs, bound)
        print(f"{golden.name} {name}: {gap:.1e} (bound {bound.value:.0e})")
        if gap > bound.value:
            failures.append(f"{name}: {gap:.2e} > {bound.value:.0e}")
    assert not failures, failures


def test_a_file_that_no_judge_knows_fails_and_one_that_is_not_built_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judges, "NOT_BUILT", ("planned_*",))
    for name, outcome in {"sampling23": AssertionError, "planned_new": pytest.skip.Exception}.items():
        path = tmp_path / f"{name}.safetensors"
        save_file({"out.x": torch.zeros(1)}, path, {"golden": json.dumps({"name": name, "config": {}})})
        with pytest.raises(outcome):
            test_equals_the_official_code(path)


def test_what_is_judged_is_built() -> None:
    assert all(map(is_built, JUDGES))
    assert not any(is_built(name) for name in NOT_BUILT)


def test_a_wrong_tensor_fails() -> None:
    """The harness itself can fail: a small offset exceeds the bound of every kind of row."""
    theirs = torch.randn(100)
    for name, tensor in [
        ("dit_t2v", "out.sample0"),
        ("primitives", "out.sinusoidal64"),
        ("vae21_encode", "out.x"),
    ]:
        bound = bound_of(name, tensor)
        assert distance(theirs, theirs, bound) <= bound.value
        assert distance(theirs + 1e-3, theirs, bound) > bound.value
        assert distance(theirs * float("nan"), theirs, bound) > bound.value
        assert distance(theirs[:50], theirs, bound) > bound.value
