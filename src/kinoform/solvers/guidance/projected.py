"""Adaptive projected guidance: differences with momentum, clipped, and their parallel part weakened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from kinoform.errors import UsageError
from kinoform.numbers import check_kind, real, settle, whole
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Combination, CombiningRule, GuidanceStep
from kinoform.solvers.guidance.telescope import alone
from kinoform.solvers.predictions import NEGATIVE, POSITIVE, Prediction
from kinoform.types import Latents, Velocity

MAX_THRESHOLD, MAX_SCALE, MAX_STEP = 1e6, 100.0, 1000


@dataclass(frozen=True, slots=True)
class Space:
    """Space in which velocities are combined: `enter` takes (x, sigma, velocity), `leave` (x, sigma, result)."""

    enter: Callable[[Latents, float, Velocity], Tensor]
    leave: Callable[[Latents, float, Tensor], Velocity]


def _same(x: Latents, sigma: float, value: Tensor) -> Tensor:
    return value


def _clean(x: Latents, sigma: float, velocity: Velocity) -> Latents:
    return x - sigma * velocity


def _velocity(x: Latents, sigma: float, clean: Latents) -> Velocity:
    return (x - clean) / sigma


V = Space(_same, _same)
"""The velocities themselves."""

X0 = Space(_clean, _velocity)
"""The videos x - sigma v that velocities lead to."""

Axes: TypeAlias = tuple[int, ...]
"""Axes of [b, c, f, h, w] over which norms and inner products run."""

SAMPLE, FRAME, CHANNEL = (1, 2, 3, 4), (1, 3, 4), (2, 3, 4)
"""All of a sample together; each latent frame by itself; each channel by itself."""


class Projecting(CombiningRule):
    """Guidance with adaptive projected differences (Sadat et al. 2024).

    Of a difference d the buffer becomes b <- d + `momentum` b (b = 0 at first) and is what counts; it is made shorter
    where its norm is above `threshold` (0: never), and its part along the prediction that it leads to is multiplied by
    `eta`. Norms and inner products run over `axes`, in `space`; the projection is in float64. Raises UsageError
    for values out of range.
    """

    __slots__ = ()
    space: Space
    axes: Axes
    momentum: float
    threshold: float | tuple[float, ...]
    eta: float

    def settle_projection(self, differences: int = 1) -> None:
        """Check the numbers of the projection of so many differences, and keep them as plain ones."""
        bounds = self.threshold if isinstance(self.threshold, tuple | list) else (self.threshold,)
        given = tuple(real("threshold", bound, 0.0, MAX_THRESHOLD) for bound in bounds)
        check_kind("space", self.space, Space, "X0")
        if self.axes not in (SAMPLE, FRAME, CHANNEL):
            raise UsageError(
                f"axes are {self.axes}; give SAMPLE, FRAME or CHANNEL, which are {SAMPLE}, {FRAME}, {CHANNEL}",
                code="value_out_of_range",
            )
        if len(given) not in (1, differences):
            raise UsageError(
                f"threshold has {len(given)} numbers; give one, or one for each of {differences} differences",
                code="value_out_of_range",
            )
        settle(
            self,
            momentum=real("momentum", self.momentum, -1.0, 1.0),
            threshold=given[0] if len(given) == 1 else given,
            eta=real("eta", self.eta, -MAX_SCALE, MAX_SCALE),
        )

    def combined(self, step: GuidanceStep, nested: tuple[Prediction, ...], weights: tuple[float, ...]) -> Combination:
        """Return base + sum_k w_k N(f_k - f_(k-1)), where N is what this rule makes of a difference."""
        bounds = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,) * len(weights)
        sigma = step.level.sigma

        def combine(x: Latents, velocities: Mapping[Prediction, Velocity], state: Any) -> tuple[Velocity, Any]:
            wide = torch.promote_types(x.dtype, torch.float32)
            points = [self.space.enter(x, sigma, velocities[each].to(wide)) for each in nested]
            buffers: list[Tensor | None] = list(state or (None,) * len(weights))
            total = points[0]
            for place, (weight, bound) in enumerate(zip(weights, bounds, strict=True)):
                difference, buffer = points[place + 1] - points[place], buffers[place]
                buffers[place] = moved = difference if buffer is None else difference + self.momentum * buffer
                total = total + weight * self.projected(moved, points[place + 1], bound)
            return self.space.leave(x, sigma, total), tuple(buffers)

        return Combination(tuple(reversed(nested)), combine)

    def projected(self, difference: Tensor, towards: Tensor, threshold: float) -> Tensor:
        """Return the difference clipped at the threshold, with its part along `towards` times eta."""
        if threshold > 0:
            norm = difference.square().sum(self.axes, keepdim=True).sqrt()
            difference = difference * torch.clamp_max(threshold / norm, 1.0)
        wide, direction = difference.double(), towards.double()
        length = direction.square().sum(self.axes, keepdim=True).sqrt().clamp_min(1e-12)
        direction = direction / length
        parallel = (wide * direction).sum(self.axes, keepdim=True) * direction
        return (wide - parallel).to(difference.dtype) + self.eta * parallel.to(difference.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class APG(Projecting):
    """Adaptive projected guidance v = u + s N(c - u), Sadat et al. 2024, with the numbers of diffusers.

    N is that of `Projecting`, s the scale of the text; at s = 1 only c is evaluated.
    """

    space: Space = V
    axes: Axes = SAMPLE
    momentum: float = 0.0
    threshold: float | tuple[float, ...] = 15.0
    eta: float = 1.0

    def __post_init__(self) -> None:
        self.settle_projection()

    def at(self, step: GuidanceStep) -> Combination:
        if step.scale() == 1:
            return alone(POSITIVE)
        return self.combined(step, (NEGATIVE, POSITIVE), (step.scale(),))


@dataclass(frozen=True, slots=True, kw_only=True)
class APGMix(APG):
    """Plain guidance in the steps up to `first` (from 0), APG with a `scale` of its own after it, as in diffusers.

    The buffer is fed in all steps.
    """

    momentum: float = -0.5
    threshold: float | tuple[float, ...] = 10.0
    eta: float = 0.0
    scale: float = 10.0
    first: int = 5

    def __post_init__(self) -> None:
        self.settle_projection()
        settle(
            self,
            scale=real("scale", self.scale, 0.0, MAX_SCALE),
            first=whole("first", self.first, 0, MAX_STEP),
        )

    def at(self, step: GuidanceStep) -> Combination:
        projecting = self.combined(step, (NEGATIVE, POSITIVE), (self.scale,))
        if step.scale() == 1:
            return alone(POSITIVE)
        if step.index > self.first and self.scale != 1:
            return projecting
        plain = PlainGuidance().at(step)

        def combine(x: Latents, velocities: Mapping[Prediction, Velocity], state: Any) -> tuple[Velocity, Any]:
            _, state = projecting.combine(x, velocities, state)
            return plain.combine(x, velocities, None)[0], state

        return Combination(projecting.asked, combine)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedChain(Projecting):
    """Adaptive projected guidance along `nested` predictions, as Bernini-R has it: base + sum_k w_k N_k(f_k - f_(k-1)).

    w_k is the scale of `conditions[k - 1]`. `threshold` is one for all differences or one for each. All predictions are
    evaluated, and the buffers go on over the switch of experts.
    """

    takes_base: ClassVar[bool] = False
    nested: tuple[Prediction, ...]
    conditions: tuple[str, ...]
    space: Space = X0
    axes: Axes = FRAME
    momentum: float = 0.0
    threshold: float | tuple[float, ...] = 50.0
    eta: float = 0.5

    def __post_init__(self) -> None:
        self.settle_projection(len(self.conditions))

    @property
    def carries_state(self) -> bool:
        return True

    def at(self, step: GuidanceStep) -> Combination:
        return self.combined(step, self.nested, tuple(map(step.scale, self.conditions)))
