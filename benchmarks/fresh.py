"""Measurements that need a process of their own: the time to start, and the most memory that one piece of work takes.

As a program, `fresh.py SIDE WORK SIZE FOLDER` does the work and prints the process's peak in bytes (Linux only).
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from loaded import FILE, read, write
from measure import Cost, Row

STARTS = {
    "import": ("from kinoform.recipes.load import load", "from diffusers import WanPipeline"),
    "kinoform --help": ("import sys; sys.argv[1:] = ['--help']; from kinoform.cli.app import main; main()", None),
}
WORKS = ("decode", "encode", "transformer")


def rows(side: int | None, rounds: int, only: str) -> Iterator[Row]:
    """`side` is that of the video in pixels whose memory is measured, None for no memory."""
    for name, (mine, other) in STARTS.items():
        if name.startswith(only):
            yield _start(name, mine, other, rounds)
    if side is None or not "peak memory".startswith(only):
        return
    for work in WORKS:
        with tempfile.TemporaryDirectory() as folder:
            _child("write", work, side, folder)
            ours, theirs = (int(_child(which, work, side, folder)) for which in ("ours", "theirs"))
        case = f"peak memory, {work} 9x{side}x{side}"
        yield Row(case=case, ours=Cost(memory=ours), theirs=Cost(memory=theirs))


def _start(name: str, mine: str, other: str | None, rounds: int) -> Row:
    """Start in turn; of three runs, the median is not the one that fills the page cache."""
    sides = [code for code in (mine, other) if code is not None]
    costs = [[_run([sys.executable, "-c", code]) for code in sides] for _ in range(rounds)]
    medians = [
        Cost(cpu=median(cost.cpu or 0 for cost in side), wall=median(cost.wall or 0 for cost in side))
        for side in zip(*costs, strict=True)
    ]
    return Row(case=name, ours=medians[0], theirs=medians[1] if other else None)


def _run(words: list[str]) -> Cost:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall=wall)


def _child(side: str, work: str, size: int, folder: str) -> str:
    words = [sys.executable, __file__, side, work, str(size), folder]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def main(side: str, work: str, size: int, folder: Path) -> None:
    """Import one side's library alone, and make only its model; `write` writes that of kinoform before."""
    import torch

    if side == "write":
        write(_spec(work).build(), folder)
        return
    latents = (3, size // 8, size // 8)
    with torch.inference_mode():
        x = torch.randn(1, 16, *latents)
        if side == "ours":
            _ours(work, latents, x, folder)
        else:
            _theirs(work, latents, x)
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    print(int(found[1]) * 1024)


def _spec(work: str):
    from kinoform.models.context import TextContext
    from kinoform.models.dit import DiTSpec
    from kinoform.models.vae import VAESpec

    if work != "transformer":
        return VAESpec()
    return DiTSpec(dim=1536, ffn_dim=8960, heads=12, layers=2, context=(TextContext(),))


def _ours(work: str, latents: tuple[int, int, int], x, folder: Path) -> None:
    import torch

    from kinoform.models.codec import decode_video, encode_video
    from kinoform.ops.patch import grid_of
    from kinoform.types import Conditions

    model = read(_spec(work).build, folder / FILE).eval()
    if work == "transformer":
        told = Conditions(context={"text": torch.randn(1, 20, 4096)})
        model(x, torch.tensor([700.0]), model.prepare(told, grid_of(x, (1, 2, 2))))
    elif work == "decode":
        torch.cat(list(decode_video(model, x)), 2)
    else:
        encode_video(model, iter(torch.zeros(1, 3, 9, 8 * latents[1], 8 * latents[2]).split((1, 4, 4), 2)))


def _theirs(work: str, latents: tuple[int, int, int], x) -> None:
    import torch
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    if work == "transformer":
        model = WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=2).eval()
        model(x, torch.tensor([700.0]), torch.randn(1, 512, 4096), return_dict=False)
        return
    vae = AutoencoderKLWan().eval()
    if work == "decode":
        vae.decode(x, return_dict=False)
    else:
        vae.encode(torch.zeros(1, 3, 9, 8 * latents[1], 8 * latents[2]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
