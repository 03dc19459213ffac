"""Does a video take the memory that `kinoform plan` predicts? Three videos, each in a process of its own.

    python benchmarks/peak_memory.py [--dtype bfloat16] [--json]
    python benchmarks/peak_memory.py --experts [--dtype bfloat16] [--json]

A random model of 0.9 GB is written as an official folder into a temporary place, so that its parts are loaded
one after the other as those of released models are. Each video is bound by another stage. Printed are the
predicted peak, the process's VmHWM (Linux only) and their ratio. With `--experts`: VmHWM of a small image with one
transformer, with two experts of its size of which one at a time is loaded, and with both in memory in all steps.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from kinoform.families.names import Names
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.families.umt5 import OFFICIAL_NAMES as TEXT_ENCODER
from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.models.context import TextContext
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.text import TextSpec
from kinoform.models.tokenizer import build_word_tokenizer
from kinoform.models.vae import VAESpec
from kinoform.pipelines.fit import workload_of
from kinoform.plan.memory import needs
from kinoform.plan.workload import Sizes
from kinoform.recipes.load import load

ROWS = 512
TEXT = TextSpec(vocab=32_000, dim=1024, dim_attention=1024, dim_ffn=2816, heads=16, layers=8, length=ROWS)
TRANSFORMER = DiTSpec(dim=1024, ffn_dim=12_288, heads=8, layers=3, context=(TextContext(width=TEXT.dim, length=ROWS),))
CODEC = VAESpec(dim=16)
VIDEOS = {"text": (1, 64, 64), "denoise": (33, 256, 256), "decode": (5, 512, 512)}
"""Frames, height and width by the stage that is to take the most."""

Load = Callable[[torch.dtype, torch.device], DiT]

EXPERTS = ("one", "in turn", "both")
"""Transformers of a run: one, two of which one at a time is loaded, two that stay, loaded at the first step."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dtype", default="float32")
    options.add_argument("--json", action="store_true", help="one object a line")
    options.add_argument("--experts", action="store_true", help="compare one transformer with two experts")
    options.add_argument("--expert-run", nargs=2, metavar=("FOLDER", "KIND"), help=argparse.SUPPRESS)
    options.add_argument("--video", nargs=2, metavar=("FOLDER", "STAGE"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.video:
        print(json.dumps(measure(Path(given.video[0]), given.video[1], given.dtype)))
        return
    if given.expert_run:
        print(json.dumps(measure_experts(Path(given.expert_run[0]), given.expert_run[1], given.dtype)))
        return
    if given.experts:
        compare_experts(given.dtype, as_json=given.json)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder))
        for stage in VIDEOS:
            words = [sys.executable, __file__, "--video", folder, stage, "--dtype", given.dtype]
            run = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
            print(run.stdout.strip() if given.json else table(json.loads(run.stdout)), flush=True)


def measure(folder: Path, stage: str, dtype: str) -> dict[str, object]:
    """Make the video of VIDEOS[stage] in this process; all sizes in bytes."""
    frames, height, width = VIDEOS[stage]
    pipe = load(folder, device="cpu", dtype=dtype)
    asked = pipe.request(
        "a red ball", seed=1, negative_prompt="", num_frames=frames, height=height, width=width, steps=2
    )
    seen: dict[str, int] = {}

    def tell(progress: object) -> None:
        seen[getattr(progress, "stage", "")] = high_water()

    started = high_water()
    video = pipe.video(asked, next(pipe.latents([asked], tell)), tell)
    video.save(folder / "video.png" if frames == 1 else folder / "video.mp4", force=True)
    sizes = Sizes(transformers=(pipe.parts.transformer_spec,), codec=pipe.parts.codec_spec, text=pipe.parts.text_spec)
    predicted = {peak.stage: peak.total for peak in needs(sizes, workload_of(asked), pipe.machine.dtype, "cpu").peaks}
    worst = max(predicted, key=lambda name: predicted[name])
    found = {"video": [frames, height, width], "dtype": dtype, "started": started, "stages": predicted, "seen": seen}
    return {**found, "bound_by": worst, "predicted": predicted[worst], "measured": high_water()}


def compare_experts(dtype: str, *, as_json: bool) -> None:
    """Run each of EXPERTS in a process of its own, and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder, "one"), text=replace(TEXT, layers=1))
        write_folder(Path(folder, "two"), text=replace(TEXT, layers=1), experts=("high_noise_model", "low_noise_model"))
        for kind in EXPERTS:
            words = [sys.executable, __file__, "--expert-run", folder, kind, "--dtype", dtype]
            run = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
            row = json.loads(run.stdout)
            line = (
                f"{kind:<8} {dtype}, an expert {row['expert'] / 1e6:.0f} MB   measured {row['measured'] / 1e6:.0f} MB"
            )
            print(run.stdout.strip() if as_json else line, flush=True)


def measure_experts(folder: Path, kind: str, dtype: str) -> dict[str, object]:
    """Make an image of 64x64 in eight steps, which both experts share; all sizes in bytes."""
    pipe = load(folder / ("one" if kind == "one" else "two"), device="cpu", dtype=dtype)
    if kind == "both":
        held = both_at_once(pipe.parts.transformers)
        pipe = replace(pipe, parts=replace(pipe.parts, transformers=held))
    asked = pipe.request("a red ball", seed=1, negative_prompt="", num_frames=1, height=64, width=64, steps=8)
    latents = next(pipe.latents([asked], lambda progress: None))
    pipe.video(asked, latents, lambda progress: None).save(folder / f"{kind}.png", force=True)
    with torch.device("meta"):
        numbers = sum(value.numel() for value in TRANSFORMER.build().parameters())
    expert = numbers * pipe.machine.dtype.itemsize
    return {"run": kind, "dtype": dtype, "expert": expert, "measured": high_water()}


def both_at_once(loads: Sequence[Load]) -> tuple[Load, ...]:
    """Return functions of which the first that is called loads all transformers, which then stay."""
    modules: list[DiT] = []

    def load_one(index: int, dtype: torch.dtype, device: torch.device) -> DiT:
        if not modules:
            modules.extend(make(dtype, device) for make in loads)
        return modules[index]

    return tuple(partial(load_one, index) for index in range(len(loads)))


def high_water() -> int:
    """Return the most bytes that this process has had in memory so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def table(row: dict) -> str:
    frames, height, width = row["video"]
    ratio = row["predicted"] / row["measured"]
    return (
        f"{width}x{height}, frames: {frames:<3} {row['dtype']}, bound by {row['bound_by']:<8}"
        f"predicted {row['predicted'] / 1e6:6.0f} MB   measured {row['measured'] / 1e6:6.0f} MB   ratio {ratio:.2f}"
    )


def write_folder(folder: Path, text: TextSpec = TEXT, experts: tuple[str, ...] = ("",)) -> None:
    """Write the model of this file in the official layout, with a transformer in each folder of `experts`."""
    config = {
        "_class_name": "WanModel", "model_type": "t2v", "dim": TRANSFORMER.dim, "ffn_dim": TRANSFORMER.ffn_dim,
        "num_heads": TRANSFORMER.heads, "num_layers": TRANSFORMER.layers, "in_dim": TRANSFORMER.in_channels,
        "out_dim": TRANSFORMER.out_channels, "freq_dim": TRANSFORMER.frequency_width, "text_len": ROWS, "eps": 1e-6,
    }  # fmt: skip
    for name in experts:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps(config))
        write(TRANSFORMER.build(), DIT, folder / name / "diffusion_pytorch_model.safetensors")
    write(text.build(), TEXT_ENCODER, folder / "models_t5_umt5-xxl-enc-bf16.safetensors")
    write(CODEC.build(), VAE21, folder / "Wan2.1_VAE.safetensors")
    tokenizer = folder / "google" / "umt5-xxl"
    tokenizer.mkdir(parents=True)
    build_word_tokenizer(("a", "red", "ball")).save(str(tokenizer / "tokenizer.json"))


def write(module: nn.Module, names: Names, path: Path) -> None:
    save_file({names.theirs(name): 0.02 * torch.randn_like(value) for name, value in module.named_parameters()}, path)


if __name__ == "__main__":
    main()
