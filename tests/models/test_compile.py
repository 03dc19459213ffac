"""PyTorch's compiler is heard where training and generation pass, and where it would not be, this is said."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny_pipeline, write_tiny_folder


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Reports of a training, compiled and not, and then of generation, from one process of their own."""
    program = "from tests.models import compiled; from tests.training import compiled as training\n"
    program += "training.main(); compiled.main(); training.blocks()"
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path_factory.mktemp("training"))],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) == 9, run.stderr
    return found


def test_what_is_compiled_of_a_training_is_what_computes(compiled: list[Any]) -> None:
    (losses, none, _), (same, calls, breaks) = compiled[:2]
    assert none == 0 and calls > 100 and not breaks
    assert losses == same


def test_blocks_of_a_lora_share_graphs_where_they_are_run_again(compiled: list[Any]) -> None:
    """One graph is for blocks that are there, one for those that are swapped."""
    gap, graphs, breaks = compiled[-1]
    assert gap < 1e-5 and 1 <= graphs <= 2 and not breaks


def test_what_is_compiled_is_what_computes(compiled: list[Any]) -> None:
    """Compile few graphs without a break, the same for all layers that see alike; in two where layers take turns."""
    for name, dtype, told in compiled[2:-1]:
        assert told["breaks"] == 0, (name, dtype, told)
        assert 1 <= told["graphs"] <= 2 and told["calls"] > 50, (name, dtype, told)
        assert told["gap"] < (1e-5 if dtype == "torch.float32" else 2e-2), (name, dtype, told)


def test_a_wrapper_that_would_not_be_heard_is_refused_and_the_other_way_works(tmp_path: Path) -> None:
    pipe = tiny_pipeline(write_tiny_folder(tmp_path / "tiny"))
    model = pipe.parts.transformer(torch.float32, torch.device("cpu"))
    wrapped = replace(pipe.parts, transformers=(lambda dtype, device: torch.compile(model, backend="eager"),))
    with refused("compile_not_heard"):
        replace(pipe, parts=wrapped)("a red ball", seed=1)
    model.compile(backend="eager")
    parts = replace(pipe.parts, transformers=(lambda dtype, device: model,))
    assert replace(pipe, parts=parts)("a red ball", seed=1).frames.shape == (3, 16, 16, 3)
