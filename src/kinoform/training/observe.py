"""Reports of a training while it runs: the loss of a step by samples, and who is told of each step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.training.metrics import Measurement
from kinoform.training.rng import kept_randomness


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLoss:
    """Loss of a batch: `total` is learnt; `each` is that of its samples at their noise levels `sigma`, for reports.

    `each` has no gradient and no weights of the objective, so that two objectives can be compared.
    """

    total: Float[Tensor, ""]
    sigma: Float[Tensor, " b"] | None = None
    each: Float[Tensor, " b"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A training as an observer sees it. `averaged` lends the module with its averaged weights, not training.

    Within that context nothing that is drawn or computed changes the training.
    """

    folder: Path
    device: torch.device
    total: int
    averaged: Callable[[], AbstractContextManager[nn.Module]] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """A finished step. `sigma` and `each` are those of this process's samples; None where its stage does not say.

    `names` gives what all samples of the step are called; it may have to draw them, so ask it seldom.
    """

    measurement: Measurement
    run: RunView
    names: Callable[[], Sequence[str]] = field(repr=False)
    sigma: tuple[float, ...] | None = None
    each: tuple[float, ...] | None = None


@runtime_checkable
class Observer(Protocol):
    """Someone who is told of a training, in its first process. One that fails is left out from then on, with a warning.

    A training that goes on begins anew for its observers: at the step of the first report.
    """

    def begin(self, run: RunView) -> None:
        """Be told that it starts, or goes on."""
        ...

    def step(self, report: StepReport) -> None:
        """Be told of a finished step, skipped or not."""
        ...

    def end(self, run: RunView) -> None:
        """Be told that it ends: done, stopped or failed."""
        ...


class Observers:
    """The observers of a run that have not failed."""

    def __init__(self, observers: Sequence[Observer], run: RunView) -> None:
        self._observers, self._run = list(observers), run

    def __bool__(self) -> bool:
        return bool(self._observers)

    def step(self, report: StepReport) -> None:
        self._tell(lambda observer: observer.step(report))

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell of begin and end."""
        self._tell(lambda observer: observer.begin(self._run))
        try:
            yield
        finally:
            self._tell(lambda observer: observer.end(self._run))

    def _tell(self, call: Callable[[Observer], None]) -> None:
        for observer in tuple(self._observers):
            try:
                with kept_randomness():
                    call(observer)
            except Exception as failure:
                # A curve is not worth a night of training, whatever is wrong with it.
                warnings.warn(f"{type(observer).__name__} failed and is left out: {failure!r}", stacklevel=2)
                self._observers.remove(observer)
