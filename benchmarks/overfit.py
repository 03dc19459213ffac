"""Does a LoRA learn one clip by heart? The loss of `kinoform train lora` on a single clip, which must fall to STATED.

    python benchmarks/overfit.py [--training-steps N]

The embedded model, rank 32, the settings of the command. A loss that stays where it was says that no gradient reaches
the LoRA, or that what is learnt is not what is asked for. Exits with 1 where the last fifty steps have a higher mean.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

CLIPS = Path(__file__).parents[1] / "examples" / "clips"
STEPS, STATED, SHOWN = 600, 0.06, 50


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--training-steps", type=int, default=STEPS)
    steps = options.parse_args().training_steps
    with tempfile.TemporaryDirectory() as folder:
        clips, run = Path(folder) / "clips", Path(folder) / "run"
        clips.mkdir()
        for file in CLIPS.glob("star.*"):
            shutil.copy(file, clips)
        words = ["train", "lora", clips, "--run", run, "--training-steps", steps, "--caption-dropout", 0]
        subprocess.run(
            [sys.executable, "-m", "kinoform", *map(str, words), "--no-cache", "--sample-every", "0"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        losses = [json.loads(line)["loss"] for line in (run / "lora" / "losses.jsonl").read_text().splitlines()]
    for start in range(0, steps, SHOWN):
        print(f"steps {start:>5} to {start + SHOWN:>5}: {mean(losses[start : start + SHOWN]):.3f}")
    sys.exit(0 if mean(losses[-SHOWN:]) <= STATED else f"the last {SHOWN} steps have a loss above {STATED}")


if __name__ == "__main__":
    main()
