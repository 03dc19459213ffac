"""A LoRA learnt by kinoform beside a plain loop of diffusers and peft, on the same weights, in the same run, in turn.

    python benchmarks/train_lora.py [--smallest] [--json] [--anyway] [--threads N] [--only TEXT]

Both have the transformer's weights in memory, and latents and prompt rows that were encoded before: what is measured
is a step, its forward, backward, clipping and AdamW. The LoRA has rank 32 on every linear layer of the attentions and
feed-forwards, and begins at no change. In bfloat16 the base is bfloat16 and the LoRA float32, on
diffusers' side under autocast, as its training scripts have it. `again` has blocks run again in the backward pass, on
diffusers' side by `enable_gradient_checkpointing`. The ratio is kinoform / diffusers, of CPU seconds of a step and of
the peak memory of a fresh process; `gap` is the RMS
of the difference of the velocities of the first step over their RMS.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from loaded import FILE, read, write
from measure import Cost, Row, in_turn
from quiet import disturbing
from run import line, machine, show
from torch import Tensor

RANK, RATE = 32, 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A transformer of these sizes, with latents (frames, height, width), learning in `dtype`."""

    name: str
    dim: int
    ffn_dim: int
    layers: int
    latents: tuple[int, int, int]
    text: int = 4096
    dtype: str = "float32"
    again: bool = False
    rounds: int = 3

    @property
    def title(self) -> str:
        """The words of the case in the table."""
        frames, height, width = self.latents
        short = {"float32": "fp32", "bfloat16": "bf16"}[self.dtype]
        return f"{self.name}, {frames * height * width // 4} tokens, {short}{', again' if self.again else ''}"

    def variants(self) -> Iterator[Case]:
        """Yield it in each dtype, with blocks run again and without."""
        for dtype in ("float32", "bfloat16"):
            for again in (False, True):
                yield replace(self, dtype=dtype, again=again)


CASES = {
    "small": (
        Case(name="dim 512, 8 layers", dim=512, ffn_dim=1408, layers=8, latents=(9, 32, 32)),
        Case(name="1.3B width, 4 layers", dim=1536, ffn_dim=8960, layers=4, latents=(3, 30, 52)),
    ),
    "smallest": (Case(name="tiny", dim=128, ffn_dim=128, layers=1, latents=(2, 4, 4), text=32, rounds=1),),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--smallest", action="store_true", help="only to see that everything runs")
    options.add_argument("--json", action="store_true", help="one object a line")
    options.add_argument("--anyway", action="store_true", help="beside other busy processes too")
    options.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    options.add_argument("--only", default="", metavar="TEXT", help="cases whose name begins so")
    given = options.parse_args()
    if not given.anyway and (others := disturbing()):
        sys.exit("the machine is not free: " + "; ".join(others) + "; wait, or add --anyway")
    torch.set_num_threads(given.threads)
    show(given.json, machine())
    for case in CASES["smallest" if given.smallest else "small"]:
        for variant in case.variants():
            if variant.title.startswith(given.only):
                for row in rows(variant, given.threads):
                    print(json.dumps(row.record()) if given.json else line(row), flush=True)


def rows(case: Case, threads: int) -> Iterator[Row]:
    """Measure the time of a step of both in this process, then the memory of each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write_base(case, base)
        sides = our_step(case, base), their_step(case, base)
        ours, theirs = (side().double() for side in sides)
        costs = in_turn(sides, case.rounds)
        del sides
        yield Row(case=case.title, ours=costs[0], theirs=costs[1], gap=float((ours - theirs).norm() / theirs.norm()))
        memory = [Cost(memory=_peak(side, case, base, threads)) for side in ("ours", "theirs")]
        yield Row(case=f"peak memory, {case.title}", ours=memory[0], theirs=memory[1])


def _spec(case: Case) -> Any:
    from kinoform.models.context import TextContext
    from kinoform.models.dit import DiTSpec

    heads = max(1, case.dim // 128)
    stream = TextContext(width=case.text)
    return DiTSpec(dim=case.dim, ffn_dim=case.ffn_dim, heads=heads, layers=case.layers, context=(stream,))


def write_base(case: Case, folder: Path) -> None:
    """Write random weights once in kinoform's names and once as diffusers saves a model, in the dtype of the case."""
    from diffusers import WanTransformer3DModel  # pyright: ignore[reportPrivateImportUsage]
    from pairs import fill

    from kinoform.families.transformer_names import DIFFUSERS_NAMES

    torch.manual_seed(0)
    spec = _spec(case)
    theirs: Any = WanTransformer3DModel(
        num_attention_heads=spec.heads, attention_head_dim=spec.dim // spec.heads, text_dim=case.text,
        ffn_dim=spec.ffn_dim, num_layers=spec.layers,
    )  # fmt: skip
    ours = spec.build()
    fill(ours, theirs, DIFFUSERS_NAMES)
    write(ours, folder)
    theirs.save_pretrained(folder / "diffusers")


def inputs(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw latents, noise, level and the 512 rows of a prompt."""
    generator = torch.Generator().manual_seed(1)
    x0, noise = torch.randn(2, 1, 16, *case.latents, generator=generator)
    rows = torch.randn(1, 512, case.text, generator=generator)
    return x0, noise, torch.tensor([0.7]), rows


def our_step(case: Case, folder: Path) -> Callable[[], Tensor]:
    """Return a step as the training loop makes it; its result is the velocity."""
    from kinoform.models.dit import keeps_float32
    from kinoform.models.lora import LoRASpec, attach
    from kinoform.solvers.levels import noised
    from kinoform.training.distributed import SingleProcess
    from kinoform.training.learner import Learner
    from kinoform.training.objective import TrainableModel, velocity_target
    from kinoform.training.optimizer import AdamSpec, OptimizerSpec, Schedule, no_matrix
    from kinoform.training.recompute import Recompute, recompute_blocks
    from kinoform.training.stage import TrainingSpec
    from kinoform.types import Conditions

    dtype = getattr(torch, case.dtype)
    base = read(_spec(case).build, folder / FILE, dtype_of=lambda name: torch.float32 if keeps_float32(name) else dtype)
    lora = LoRASpec(rank=RANK)
    model = attach(base.requires_grad_(False), lora, generator=torch.Generator().manual_seed(2)).train()
    module = TrainableModel(model)
    recompute_blocks(module, Recompute.FULL if case.again else Recompute.NONE)
    optimizer = OptimizerSpec(adam=AdamSpec(learning_rate=RATE), hidden=no_matrix)
    spec = TrainingSpec(schedule=Schedule(warmup=0, total=1000), optimizer=optimizer)
    learner = Learner(module, spec, SingleProcess())
    x0, noise, sigma, rows = inputs(case)
    steps = count()

    def step() -> Tensor:
        x, target = noised(x0, noise, sigma), velocity_target(x0, noise)
        velocity = module(x, sigma, Conditions(context={"text": rows})).float()
        learner.gradients([(velocity - target).square().mean()])
        learner.clipped()
        learner.apply(next(steps), 1.0)
        return velocity.detach()

    return step


def their_step(case: Case, folder: Path) -> Callable[[], Tensor]:
    """Return a step as the training scripts of diffusers make it, without what they need for several devices."""
    from diffusers import WanTransformer3DModel  # pyright: ignore[reportPrivateImportUsage]
    from peft import LoraConfig

    dtype = getattr(torch, case.dtype)
    model: Any = WanTransformer3DModel.from_pretrained(folder / "diffusers", torch_dtype=dtype)
    model.requires_grad_(False)
    layers = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]
    torch.manual_seed(2)
    model.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=layers))
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.data = parameter.data.float()
    if case.again:
        model.enable_gradient_checkpointing()
    model.train()
    optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=0.0)
    x0, noise, sigma, rows = inputs(case)

    def step() -> Tensor:
        level = sigma.view(-1, 1, 1, 1, 1)
        x, target = (1 - level) * x0 + level * noise, noise - x0
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            velocity = model(x.to(dtype), 1000 * sigma, rows.to(dtype), return_dict=False)[0]
        (velocity.float() - target).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return velocity.detach()

    return step


def _peak(side: str, case: Case, folder: Path, threads: int) -> int:
    """Run three steps of a side in a process of its own and return its peak in bytes (Linux only)."""
    words = [sys.executable, __file__, "--peak", side, case.title, str(folder), str(threads)]
    return int(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def peak(side: str, title: str, folder: str, threads: str) -> None:
    """Import one side's library alone, run its steps, and print the peak."""
    torch.set_num_threads(int(threads))
    case = next(each for cases in CASES.values() for one in cases for each in one.variants() if each.title == title)
    step = (our_step if side == "ours" else their_step)(case, Path(folder))
    for _ in range(3):
        step()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    print(int(found[1]) * 1024)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        peak(*sys.argv[2:])
    else:
        main()
