"""The transformers of a model in turn: one is in memory at a time, with what is prepared for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from kinoform.errors import UsageError
from kinoform.models.dit import DiT
from kinoform.models.lora import set_strength
from kinoform.pipelines.fit import fitting
from kinoform.solvers.by_expert import expert_names
from kinoform.solvers.field import Stateful, StatefulField, stateful
from kinoform.solvers.schedule import Varying, along, changes
from kinoform.types import Field, Latents, Level, Velocity


class Experts:
    """Transformers of which one at a time is loaded: at its first evaluation, when the one before it is dropped.

    `load` holds a function for each, that of the highest noise first. A function may return the same module at every
    call; then its module stays. `strengths` are those of its LoRA files that change during a run, by the names of the
    adapters.
    """

    def __init__(
        self,
        load: Sequence[Callable[[], DiT]],
        device: torch.device,
        strengths: Sequence[Mapping[str, Varying]] = (),
    ) -> None:
        self.device = device
        self.strengths = tuple(strengths) or ({},) * len(load)
        self._load = tuple(load)
        self._loaded: tuple[int, DiT] | None = None
        self._set: dict[str, float] = {}
        self._fields: dict[Callable[[DiT], Field], StatefulField] = {}

    def __len__(self) -> int:
        return len(self._load)

    def name(self, index: int) -> str | None:
        """The name of an expert; None for the only one."""
        return expert_names(len(self))[index] if len(self) > 1 else None

    def field(self, index: int, make: Callable[[DiT], Field], levels: tuple[Level, ...]) -> StatefulField:
        """A field of expert `index` in a run through `levels`.

        `make` prepares it at the first evaluation, again after `release`, and again where a strength has changed.
        """
        strengths = {name: along(value, levels) for name, value in self.strengths[index].items()}

        def evaluate(x: Latents, level: Level, state: Any) -> tuple[Velocity, Any]:
            at_level = {name: strength(level) for name, strength in strengths.items()}
            return self._prepared(index, make, at_level).evaluate(x, level, state)

        return Stateful(evaluate)

    def resets(self, expert_of: Callable[[Level], int], levels: tuple[Level, ...]) -> frozenset[int]:
        """Return the steps of a run at which a strength changes on the expert that made the step before."""
        of_steps = [expert_of(level) for level in levels[:-1]]
        changed = [
            frozenset[int]().union(*(changes(value, levels) for value in own.values())) for own in self.strengths
        ]
        same = ((index, now) for index, (before, now) in enumerate(pairwise(of_steps), start=1) if before == now)
        return frozenset(index for index, expert in same if index in changed[expert])

    def release_prepared(self) -> None:
        """Drop what was prepared of a video; the expert stays."""
        self._fields.clear()

    def release(self) -> None:
        """Drop the expert that is loaded, and what was prepared for it."""
        self._fields.clear()
        self._loaded = None

    def _prepared(self, index: int, make: Callable[[DiT], Field], strengths: dict[str, float]) -> StatefulField:
        if self._loaded is None or self._loaded[0] != index:
            self.release()
            self._loaded, self._set = (index, self._read(index)), {}
        if strengths != self._set:
            # Keys and values of context tokens are of the strengths before.
            self._fields.clear()
            for name, strength in strengths.items():
                set_strength(self._loaded[1], name, strength)
            self._set = strengths
        if make not in self._fields:
            self._fields[make] = stateful(make(self._loaded[1]))
        return self._fields[make]

    def _read(self, index: int) -> DiT:
        name = self.name(index)
        with fitting("the transformer" if name is None else f"expert {name}"):
            model = self._load[index]()
        _check_not_wrapped(model)
        return model


def in_memory(model: DiT) -> Experts:
    """The only transformer of a model, already loaded."""
    return Experts((lambda: model,), model.patch_embedding.weight.device)


def _check_not_wrapped(model: nn.Module) -> None:
    """Raise UsageError for a model in the wrapper that `torch.compile` returns, behind which lies what is called."""
    if hasattr(model, "_orig_mod"):
        raise UsageError(
            "the transformer is wrapped by torch.compile, and what generation calls lies behind the wrapper, so that "
            "nothing would be compiled; call model.compile() instead",
            code="compile_not_heard",
        )
