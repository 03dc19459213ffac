"""Thousands of damaged files: each is opened or refused in words, quickly, in little memory, and none is run."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from tests.weights.fuzz_files import pickle_sources

COUNT = 2400
SECONDS = 1.0
BYTES = 200_000_000


def test_every_damaged_file_is_opened_or_refused_in_words(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.weights.fuzz_files", tmp_path, str(COUNT)], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout)
    assert found["faults"] == []
    assert sum(found["seen"].values()) == COUNT
    for suffix in (".safetensors", ".gguf", ".pth"):
        assert found["seen"][f"{suffix} refused"] > 300 and found["seen"][f"{suffix} opened"] > 0
    # The one bound on time in these tests: a file that takes long is a fault of its own.
    assert found["slowest"] < SECONDS and found["grown"] < BYTES


def test_the_payload_of_these_files_is_a_real_one(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "w.pth").write_bytes(pickle_sources(canary)[1])
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert canary.exists()
