"""Recipes of the tiny model whose runs meet a trouble at a chosen step, for tests of how it is met."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from kinoform.recipe import Recipe
from kinoform.solvers.base import State
from kinoform.solvers.euler import Euler
from kinoform.types import Field, Latents, Level
from tests.support.tiny_recipe import tiny

TROUBLED_STEP = 2
STEPS = 200

begun: list[int] = []
"""Indices of the steps that were begun, for tests that run in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubled:
    """Euler, but the state of one step passes through `trouble` first."""

    trouble: Callable[[State[None]], State[None]]

    def levels(self, steps: int, shift: float) -> tuple[Level, ...]:
        return Euler().levels(steps, shift)

    def init(self, x: Latents) -> State[Any]:
        return Euler().init(x)

    def step(self, state: State[Any], field: Field, levels: tuple[Level, ...], index: int) -> State[Any]:
        begun.append(index)
        if index == TROUBLED_STEP:
            state = self.trouble(state)
        return Euler().step(state, field, levels, index)


def _recipe(trouble: Callable[[State[None]], State[None]]) -> Recipe:
    return replace(tiny(), steps=STEPS, solver=Troubled(trouble=trouble))


def _signalled(number: int) -> Callable[[State[None]], State[None]]:
    def send(state: State[None]) -> State[None]:
        os.kill(os.getpid(), number)
        return state

    return send


def ctrl_c() -> Recipe:
    return _recipe(_signalled(signal.SIGINT))


def terminated() -> Recipe:
    return _recipe(_signalled(signal.SIGTERM))


def hung_up() -> Recipe:
    return _recipe(_signalled(signal.SIGHUP))


def hung_up_twice() -> Recipe:
    """Act as a terminal that closes may: another signal comes while the first one's work is cleaned up."""

    def both(state: State[None]) -> State[None]:
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
        return state

    return _recipe(both)


def not_a_number() -> Recipe:
    return _recipe(lambda state: replace(state, x=torch.full_like(state.x, torch.nan)))


def slower() -> Recipe:
    """No trouble: the tiny recipe at half its rate."""
    return replace(tiny(), fps=4.0)
