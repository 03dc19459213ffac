"""The benchmark of both kinds of attention runs, its kernels agree, and it finds where two lines cross."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "schemes.py"


def test_every_video_gives_a_row_and_a_loop_finds_the_same() -> None:
    words = [sys.executable, str(SCRIPT), "--smallest", "--anyway", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["kind"] for row in rows] == ["forward", "forward", "turn", "places"]
    assert all(set(row["seconds"]) == {"full", "factorized", "alternating"} for row in rows[:2])
    assert rows[-1]["gap"] < 1e-6


@pytest.mark.parametrize(
    ("ratios", "frames"), [((2.0, 0.5), 20), ((2.0, 1.5), None), ((0.9, 0.5), 10), ((4.0, 2.0, 0.5), 80)]
)
def test_the_ratio_falls_through_one_between_two_lengths(
    ratios: tuple[float, ...], frames: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import schemes

    rows = [
        schemes.Forward(
            frames=10 * 4**place, side=64, tokens=1, seconds={"full": 1.0, "factorized": ratio}, predicted=1.0
        )
        for place, ratio in enumerate(ratios)
    ]
    found = schemes.crossing(rows)
    assert found == (None if frames is None else pytest.approx(frames))
