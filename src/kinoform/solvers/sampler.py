"""Samplers: what is done with a solver and a velocity to make a video, from noise or from another video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kinoform.solvers.base import Constraint, Solver, Step, sample
from kinoform.solvers.guidance.rule import Guidance, reads_negative, text_scale
from kinoform.solvers.levels import noised
from kinoform.solvers.scales import GuidanceScales
from kinoform.types import Field, Latents, Level

SLACK = 1e-4
"""The most by which a product with up to 1000 steps may be below the whole number that is meant, as 100 * 0.29 is."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """Material of a sampler for one video.

    `field` is the velocity of the prompt; where it is of several experts, wrap it by `experts.per_expert`. `levels` are
    those of the request, and the video begins at levels[first]. `noise` is the video's own, `draw` gives other noise at
    each call. `start` are the latents of a video to begin from, `source` is the velocity of its description at a
    guidance scale; None where a request has none. `constrain` re-imposes known values. `resets` are the steps at
    which the network changes, whose strengths of LoRA files are scheduled.
    """

    solver: Solver
    field: Field
    levels: tuple[Level, ...]
    first: int
    noise: Latents
    draw: Callable[[], Latents]
    start: Latents | None = None
    source: Callable[[float], Field] | None = None
    constrain: Constraint | None = None
    resets: frozenset[int] = frozenset()


@runtime_checkable
class Sampler(Protocol):
    """Algorithm around a solver: a frozen value that keeps nothing between calls.

    `edits` says whether it needs `Run.start` and `Run.source`. `check` raises UsageError where a video cannot
    be made in so many steps. `steps` yields after each step from `Run.first` to the last; stop asking to cancel.
    """

    @property
    def edits(self) -> bool: ...
    def check(self, steps: int) -> None: ...
    def steps(self, run: Run) -> Iterator[Step]: ...


@runtime_checkable
class SourceGuided(Protocol):
    """Sampler that tells the one scale at which it asks for `Run.source`."""

    @property
    def source_guidance(self) -> float: ...


def negative_is_read(rule: Guidance, scales: GuidanceScales, sampler: Sampler, levels: tuple[Level, ...]) -> bool:
    """Return whether a run reads the negative prompt, for the prompt at the `scales` of any expert, or for a source
    prompt.

    Taken for granted where the sampler does not tell at which scale it asks for the source prompt.
    """
    if sampler.edits and not isinstance(sampler, SourceGuided):
        return True
    source = (sampler.source_guidance,) if sampler.edits and isinstance(sampler, SourceGuided) else ()
    along = (scales.along(index, levels) for index in range(scales.experts))
    return any(reads_negative(rule, own, levels) for own in (*along, *map(text_scale, source)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoise:
    """Sampling by the solver alone: from noise, or from a noised video (SDEdit, Meng et al. 2021).

    A run of all steps begins from the noise itself, whatever it is given to begin from: the first sigma of some
    solvers is a little below 1, and the networks would make much of the little that shows through.
    """

    @property
    def edits(self) -> bool:
        return False

    def check(self, steps: int) -> None:
        """Any number of steps will do."""

    def steps(self, run: Run) -> Iterator[Step]:
        return sample(
            run.solver, run.field, beginning(run), run.levels, start=run.first, constrain=run.constrain,
            resets=run.resets,
        )  # fmt: skip


def beginning(run: Run) -> Latents:
    """Return the latents at which a run begins: its noise, or the video to begin from with noise up to that level."""
    start = run.start if run.first else None
    return run.noise if start is None else noised(start, run.noise, run.levels[run.first].sigma)


def first_step(steps: int, strength: float) -> int:
    """Return where a video redone by `strength` in (0, 1] begins: the last `strength` of the steps, one at least."""
    return steps - max(1, min(steps, int(steps * strength + SLACK)))
