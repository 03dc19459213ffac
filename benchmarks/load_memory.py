"""Host memory that a load takes: random weights of T2V-1.3B's size, loaded in a fresh process.

    python benchmarks/load_memory.py [--layers 30] [--folder FOLDER]

Writes the transformer of an official folder, in bfloat16, once as safetensors in three shards and once as
.pth (2.9 GB each, one after the other), loads it as bfloat16 on the CPU, and prints for each the bytes of the
model, the most memory that the process ever had resident, what it had before the load, and the difference
between the peak and the model, whose bound is 1 GiB. The folder is removed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from kinoform.checkpoints.file_sets import shard_name
from kinoform.checkpoints.files import STEM, open_checkpoint
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.loading.load import load_module
from kinoform.models.dit import DiTSpec, keeps_float32
from kinoform.models.meta import on_meta
from kinoform.recipes.wan21 import t2v_1_3b

BOUND = 1 << 30
SHARDS = 3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--layers", type=int, default=t2v_1_3b().transformer.layers)
    options.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.load is not None:
        print(json.dumps(load(asked.load, asked.layers)))
        return
    over = 0
    for kind, write in (("safetensors", write_shards), ("pth", write_pickle)):
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            place = write(Path(folder), spec(asked.layers))
            command = [sys.executable, __file__, "--load", str(place), "--layers", str(asked.layers)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        difference = found["peak"] - found["model"]
        over += difference > BOUND
        print(
            f"{kind:<12} model {found['model']:>13,} bytes, before {found['before']:>13,}, peak {found['peak']:>13,}, "
            f"peak - model {difference:>13,} ({difference / BOUND:.2f} of the bound)"
        )
    sys.exit(1 if over else 0)


def spec(layers: int) -> DiTSpec:
    return replace(t2v_1_3b().transformer, layers=layers)


def load(place: Path, layers: int) -> dict[str, int]:
    """Measure the bytes of the loaded module, and of the process before and at its most."""
    before = status("VmRSS")
    module = load_module(
        spec(layers).build,
        open_checkpoint(place),
        names=DIT,
        dtype_of=lambda name: torch.float32 if keeps_float32(name) else torch.bfloat16,
        device=torch.device("cpu"),
    )
    model = sum(parameter.nbytes for parameter in module.parameters())
    return {"model": model, "before": before, "peak": status("VmHWM")}


def status(key: str) -> int:
    """Read a line of this process's status, in bytes. (getrusage would count the parent's memory before exec.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this measurement needs Linux")


def write_shards(folder: Path, sizes: DiTSpec) -> Path:
    names = [name for name, _ in on_meta(sizes.build).named_parameters()]
    for shard in range(SHARDS):
        tensors = random_tensors(sizes, set(names[shard::SHARDS]))
        save_file(tensors, folder / shard_name(STEM, shard + 1, SHARDS))
    return folder


def write_pickle(folder: Path, sizes: DiTSpec) -> Path:
    names = {name for name, _ in on_meta(sizes.build).named_parameters()}
    torch.save(random_tensors(sizes, names), folder / "model.pth")
    return folder / "model.pth"


def random_tensors(sizes: DiTSpec, names: set[str]) -> dict[str, Tensor]:
    """Return random tensors of these own names, under their official ones."""
    generator = torch.Generator().manual_seed(0)
    return {
        DIT.theirs(name): torch.empty(parameter.shape, dtype=torch.bfloat16).uniform_(-0.1, 0.1, generator=generator)
        for name, parameter in on_meta(sizes.build).named_parameters()
        if name in names
    }


if __name__ == "__main__":
    main()
