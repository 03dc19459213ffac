"""kinoform beside diffusers on the same random weights, in the same process, in turn.

    python benchmarks/run.py [--full | --smallest] [--json] [--anyway] [--threads N] [--only TEXT]

The ratio is kinoform / diffusers: process CPU seconds, or bytes of memory; below 1 kinoform takes less. `gap` is
the RMS of the difference of the two results over that of diffusers' result. A share is that of the fastest
product or convolution measured on this machine just before.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain

import cases
import fresh
import torch
from cases import Plan
from measure import Cost, Row
from pairs import Size
from quiet import disturbing

MINI = Size(dim=512, ffn_dim=1408, layers=8, latents=(9, 32, 32))
PLANS = {
    "smallest": Plan(
        transformers={"tiny": Size(dim=128, ffn_dim=128, layers=1, latents=(1, 4, 4), text=32)},
        video=(5, 16, 16), dim=8, rounds=1, peak_side=64, steps=1,
        whole=Size(dim=128, ffn_dim=128, layers=1, latents=(2, 2, 2), text=32),
    ),
    "small": Plan(
        transformers={"1.3B width": Size(dim=1536, ffn_dim=8960, layers=2, latents=(3, 30, 52)), "dim 512": MINI},
        video=(5, 128, 128), dim=96, rounds=3, peak_side=1024, steps=4,
        whole=Size(dim=512, ffn_dim=1408, layers=8, latents=(2, 16, 16)),
    ),
    "full": Plan(
        transformers={
            "1.3B": Size(dim=1536, ffn_dim=8960, layers=30, latents=(1, 30, 52)),
            "1.3B width": Size(dim=1536, ffn_dim=8960, layers=2, latents=(3, 60, 104)),
            "dim 512": MINI,
        },
        video=(9, 192, 192), dim=96, rounds=3, peak_side=2048, steps=5,
        whole=Size(dim=512, ffn_dim=1408, layers=8, latents=(3, 24, 24)),
    ),
}  # fmt: skip
MEMORY_SIDE = {"small": 128, "full": 192}
STARTS = {"smallest": 1, "small": 3, "full": 5}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = options.add_mutually_exclusive_group()
    for name, text in {"full": "larger settings", "smallest": "only to see that everything runs"}.items():
        size.add_argument(f"--{name}", dest="size", action="store_const", const=name, default="small", help=text)
    options.add_argument("--json", action="store_true", help="one object a line")
    options.add_argument("--anyway", action="store_true", help="beside other busy processes too")
    options.add_argument("--threads", type=int, help="of PyTorch")
    options.add_argument("--only", default="", metavar="TEXT", help="cases whose name begins so")
    given = options.parse_args()
    if not given.anyway and (others := disturbing()):
        sys.exit("the machine is not free: " + "; ".join(others) + "; wait, or add --anyway")
    if given.threads:
        torch.set_num_threads(given.threads)
    plan = PLANS[given.size]
    for case in cases.left_out(plan):
        if case.startswith(given.only):
            told = f"left out: {case}: this processor has no units for it and would emulate them"
            print(json.dumps({"left_out": case}) if given.json else told, flush=True)
    peaks = cases.peaks(plan)
    show(given.json, machine() | {name: round(peak / 1e9) for name, peak in peaks.items()})
    for row in measured(given.size, plan, peaks, given.only):
        print(json.dumps(row.record()) if given.json else line(row), flush=True)


def measured(size: str, plan: Plan, peaks: dict[str, float], only: str) -> Iterator[Row]:
    memory = MEMORY_SIDE.get(size)
    return chain(cases.rows(plan, peaks, only), fresh.rows(memory, STARTS[size], only))


def machine() -> dict[str, object]:
    packages = {name: version(name) for name in ("torch", "diffusers", "kinoform")}
    return {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()} | packages


def show(as_json: bool, facts: dict[str, object]) -> None:
    if as_json:
        print(json.dumps({"machine": facts}), flush=True)
        return
    print(
        "\n".join(
            f"{name:<18}{value}{' GFLOP/s' if name[-2:] in ('16', '32') else ''}" for name, value in facts.items()
        )
    )
    print(f"\n{'case':<52}{'kinoform':>11}{'diffusers':>11}{'ratio':>7}{'share of peak':>15}{'gap':>9}", flush=True)


def line(row: Row) -> str:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    share = "" if row.share is None else " / ".join(f"{part:.0%}" for part in row.share)
    gap = "" if row.gap is None else f"{row.gap:.0e}"
    return f"{row.case:<52}{_said(row.ours):>11}{_said(row.theirs):>11}{ratio:>7}{share:>15}{gap:>9}"


def _said(cost: Cost | None) -> str:
    if cost is None:
        return ""
    return f"{cost.memory / 1e6:.0f} MB" if cost.memory else f"{cost.cpu or 0:.2f} s"


if __name__ == "__main__":
    main()
