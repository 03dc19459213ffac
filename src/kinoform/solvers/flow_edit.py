"""FlowEdit: from one video to another along the difference of two velocities (Kulikov et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from kinoform.errors import UsageError
from kinoform.numbers import real, settle, whole
from kinoform.solvers.base import State, Step, initial_state, interval, sample, velocity_at
from kinoform.solvers.levels import noised
from kinoform.solvers.sampler import Run
from kinoform.types import CLEAN, Field, Latents, Level, Velocity

MOST_AVERAGES, MOST_GUIDANCE, MOST_PLAIN = 100, 100.0, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEdit:
    """FlowEdit (Kulikov et al. 2024), which changes a video without inverting it.

    z' = z + (sigma' - sigma) mean_n(v(z + x_n - x, sigma) - u(x_n, sigma)), x_n = (1 - sigma) x + sigma n.

    x is the video to be changed and where z begins; v is the velocity of the prompt, u that of what x shows,
    at `source_guidance`. Nothing is inverted, and with v = u nothing changes. The mean is over `averages`
    noises, drawn anew at every step. The first n_max of the paper is where the run begins, by its strength;
    the last `plain_steps` (n_min) follow v alone, by the solver. The other steps take the levels of the
    solver, and are of first order. Raises UsageError for values out of range.
    """

    source_guidance: float = 1.5
    averages: int = 1
    plain_steps: int = 0

    def __post_init__(self) -> None:
        settle(
            self,
            source_guidance=real("source_guidance", self.source_guidance, 0.0, MOST_GUIDANCE),
            averages=whole("averages", self.averages, 1, MOST_AVERAGES),
            plain_steps=whole("plain_steps", self.plain_steps, 0, MOST_PLAIN),
        )

    @property
    def edits(self) -> bool:
        return True

    def check(self, steps: int) -> None:
        """Raises UsageError where every step would be plain."""
        if self.plain_steps >= steps:
            raise UsageError(
                f"plain_steps is {self.plain_steps} of {steps} steps; at least one step is for the change",
                code="too_few_steps",
            )

    def steps(self, run: Run) -> Iterator[Step]:
        """Raises UsageError when the run has no video to change, or no velocity of what it shows."""
        if run.start is None or run.source is None:
            raise UsageError(
                "FlowEdit changes a video; give the video, and in a source prompt what it shows", code="input_missing"
            )
        source, video = run.source(self.source_guidance), initial_state(run.start, None).x
        edited, turn = video, max(run.first, len(run.levels) - 1 - self.plain_steps)
        for index in range(run.first, turn):
            level, target = interval(run.levels, index)
            velocity = self._difference(run, source, video, edited, level)
            x0 = edited - level.sigma * velocity
            edited = edited + (target.sigma - level.sigma) * velocity
            if run.constrain is not None:
                edited = run.constrain(edited, CLEAN)
            state = State(x=edited, x0=x0, history=None)
            yield Step(index=index, level=target, state=state, field_state=None)
        if turn < len(run.levels) - 1:
            x = (edited - video) + noised(video, run.noise, run.levels[turn].sigma)
            yield from sample(
                run.solver, run.field, x, run.levels, start=turn, constrain=run.constrain, resets=run.resets
            )

    def _difference(self, run: Run, source: Field, video: Latents, edited: Latents, level: Level) -> Velocity:
        """Return the mean change of the video over noises; (edited - video) comes first, exactly 0 at the start."""
        total = torch.zeros_like(video)
        for _ in range(self.averages):
            noisy = noised(video, run.draw(), level.sigma)
            beside = (edited - video) + noisy
            total += velocity_at(beside, run.field, level) - velocity_at(noisy, source, level)
        return total / self.averages
