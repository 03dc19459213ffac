"""Validation: the loss of held-out examples at fixed noise levels with fixed noise: its movement is learning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.errors import UsageError
from kinoform.training.collate import collate
from kinoform.training.devices import moved
from kinoform.training.examples import Example
from kinoform.training.noisy_input import noisy_input
from kinoform.training.objective import TrainableModel
from kinoform.training.observe import RunView, StepReport
from kinoform.training.run_log import VALIDATION
from kinoform.training.watching import StepFile

LEVELS_OF_VALIDATION = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
Rows = Callable[[list[str]], Float[Tensor, "b n d"]]


class ValidationLog:
    """Writes validation.jsonl: the loss of examples that nothing learns, by noise level, of the averaged weights.

    It is measured after the first step, every `every` steps, and after the last. `rows` encode prompts.
    """

    def __init__(self, examples: Sequence[Example], rows: Rows, every: int, seed: int = 0) -> None:
        if every < 1 or not examples:
            raise UsageError(
                f"validation needs examples, and 1 or more steps between; got {len(examples)} and {every}",
                code="value_out_of_range",
            )
        self._examples, self._rows, self._every, self._seed = tuple(examples), rows, every, seed

    def begin(self, run: RunView) -> None:
        """See `Observer`."""
        self._file = StepFile(run.folder / VALIDATION)

    def step(self, report: StepReport) -> None:
        """See `Observer`."""
        done, run = report.measurement.step + 1, report.run
        if done % self._every and done not in (1, run.total):
            return
        with run.averaged() as module:
            assert isinstance(module, TrainableModel)
            each = [
                list(losses(module, example, self._rows([example.prompt]), run.device, self._seed + number))
                for number, example in enumerate(self._examples)
            ]
        mean = [sum(column) / len(column) for column in zip(*each, strict=True)]
        self._file.write(report.measurement.step, {"sigma": LEVELS_OF_VALIDATION, "loss": mean})

    def end(self, run: RunView) -> None:
        """See `Observer`."""


def losses(
    module: TrainableModel, example: Example, rows: Float[Tensor, "1 n d"], device: torch.device, seed: int
) -> Iterator[float]:
    """Yield the loss of an example at each of the nine levels, all with the noise of the seed."""
    condition = collate([example.condition])
    x0 = example.latents[None].float()
    channels, frames, *sides = example.latents.shape
    size = 1, channels, condition.constraints.prefix_frames + frames, *sides
    noise = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    conditions = moved(condition.conditions(rows), device)
    for level in LEVELS_OF_VALIDATION:
        sigma = torch.tensor([level])
        given = noisy_input(condition, x0, noise, sigma)
        velocity = module(given.x.to(device), sigma.to(device), conditions)
        yield given.loss(velocity.float().cpu()).item()
