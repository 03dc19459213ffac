"""`main`: what of a training is compiled, in a process of its own: checks of shapes hinder the compiler."""

import json
import sys
from functools import partialmethod
from pathlib import Path

import torch
from torch import nn
from torch._dynamo.utils import counters

from kinoform.mini.training.transformer_stage import TransformerStage
from kinoform.training.loop import train
from kinoform.training.metrics import read_metrics
from kinoform.training.stage import RunOptions
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
