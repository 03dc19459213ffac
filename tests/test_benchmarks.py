"""The benchmarks run: every case of the smallest plan gives a row whose two results agree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "run.py"


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    one = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, env=one, check=False)


def test_every_case_gives_a_row():
    pytest.importorskip("diffusers")
    done = run("--smallest", "--anyway", "--json")
    assert done.returncode == 0, done.stderr
    machine, *rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert machine["machine"]["product fp32"] > 0
    kinds = {row["case"].split(" ")[0].rstrip(",") for row in rows}
    assert kinds == {"transformer", "film", "autoencoder", "import", "kinoform"}
    for row in rows:
        assert row["ours"]["cpu"] >= 0
        if row["gap"] is not None:
            assert row["gap"] < (3e-2 if "bf16" in row["case"] else 1e-5), row
    assert sum(row["gap"] is not None for row in rows) == 4, "two precisions of the transformer, two ways of the codec"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_busy_machine_is_refused():
    pytest.importorskip("diffusers")
    spin = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        done = run("--smallest")
        assert done.returncode == 1
        assert "the machine is not free" in done.stderr
        assert "--anyway" in done.stderr
    finally:
        spin.kill()
        spin.wait()
