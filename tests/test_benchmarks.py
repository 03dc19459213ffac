"""The benchmarks run: every case of the smallest plan gives a row whose two results agree."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "run.py"


def test_every_case_gives_a_row():
    pytest.importorskip("diffusers")
    words = [sys.executable, str(SCRIPT), "--smallest", "--anyway", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    machine, *rows = [row for row in told if "left_out" not in row]
    emulated = any("transformer" in row.get("left_out", "") for row in told)
    assert machine["machine"]["product fp32"] > 0
    kinds = {row["case"].split(" ")[0].rstrip(",") for row in rows}
    assert kinds == {"transformer", "video", "autoencoder", "import", "kinoform"}
    for row in rows:
        assert row["ours"]["cpu"] >= 0
        if row["gap"] is not None:
            assert row["gap"] < (3e-2 if "bf16" in row["case"] else 1e-5), row
    # Of the transformer in one or two precisions, and of the codec both ways.
    assert sum(row["gap"] is not None for row in rows) == (3 if emulated else 4)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_busy_processes_and_trainings_are_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import quiet

    sleep = "import time; time.sleep(99)"
    started = [subprocess.Popen([sys.executable, "-c", sleep, *words]) for words in ((), ("kinoform", "train"), ())]
    busy, train, idle = (process.pid for process in started)
    samples = iter(
        [{busy: 1.0, train: 5.0, idle: 3.0, os.getpid(): 0.0}, {busy: 1.3, train: 5.0, idle: 3.1, os.getpid(): 9.0}]
    )
    monkeypatch.setattr(quiet, "_cpu_seconds", lambda: next(samples))
    try:
        seen = quiet.disturbing()
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert len(seen) == 2
    assert seen[0].startswith(f"process {busy} (") and seen[0].endswith("takes 30% of a core")
    assert seen[1] == f"process {train} is a training"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_time_and_parents_are_read_from_the_system(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import quiet

    assert {os.getpid(), os.getppid()} - {0, 1} <= quiet._family(os.getpid())
    used = quiet._cpu_seconds()[os.getpid()]
    assert 0 < used <= time.process_time() + 0.1, "children not counted, hundredths rounded down"
