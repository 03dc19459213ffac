"""`main`: what of a training is compiled, in a process of its own: checks of shapes hinder the compiler."""

import json
import sys
from functools import partialmethod
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.func import functional_call

from kinoform.mini.training.transformer_stage import TransformerStage
from kinoform.training.loop import train
from kinoform.training.metrics import read_metrics
from kinoform.training.recompute import Recompute, recompute_blocks
from kinoform.training.stage import RunOptions
from kinoform.training.swap import place
from kinoform.types import Conditions
from tests.training.adapted_model import adapted_model
from tests.training.test_stages import tiny_plan, untrained


def main() -> None:
    """Print for a training as it is, and for a compiled one, its losses and the number of calls in graphs."""
    torch.set_num_threads(1)
    # Traced and not translated, which takes seconds and no compiler of the machine.
    setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))  # noqa: B010
    folder, plan = Path(sys.argv[1]), tiny_plan()
    frozen = untrained(plan, folder)
    for compile in (False, True):
        options = RunOptions(show_progress=False, compile=compile)
        place = folder / str(compile)
        train(TransformerStage(plan.transformer, frozen), place, plan.transformer_training, options)
        losses = [entry.loss for entry in read_metrics(place / "losses.jsonl")]
        print(json.dumps([losses, counters["stats"]["calls_captured"], counters["graph_break"]]))


def blocks() -> None:
    """Print for a LoRA whose blocks are run again, the first of them swapped, how far its gradients are from those of
    one that is not compiled, and the graphs and their breaks."""
    plain, compiled = _gradients(compile=False), _gradients(compile=True)
    gap = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(compiled, plain, strict=True))
    print(json.dumps([gap, counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())]))


def _gradients(*, compile: bool) -> list[Tensor]:
    torch._dynamo.reset()
    counters.clear()
    module, generator = adapted_model(layers=4), torch.Generator().manual_seed(1)
    place(module, torch.device("cpu"), 2)
    recompute_blocks(module, Recompute.FULL)
    if compile:
        module.compile(backend="aot_eager")  # with the graph of the gradients, and no compiler of the machine
    x, rows = torch.randn(1, 4, 1, 8, 8, generator=generator), torch.randn(1, 8, 16, generator=generator)
    lent = {name: item + 0 for name, item in module.named_parameters() if item.requires_grad}
    inputs = x, torch.tensor([0.5]), Conditions(context={"text": rows})
    functional_call(module, lent, inputs).square().mean().backward()
    return [item.grad for item in module.parameters() if item.grad is not None]
