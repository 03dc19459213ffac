"""Distributions of the noise levels that a training draws, each with its quantile function.

Ranges are told as timesteps from 0 (clean) to 1000 (noise); a range of a distribution keeps its density.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.errors import UsageError
from kinoform.numbers import real, settle, whole
from kinoform.solvers.levels import TIMESTEPS, shifted

_OPEN = 2.0**-24  # the distance of u from 0 and 1: a float32 sigma never rounds onto either end

MAX_SHIFT, MAX_COUNT = 1000.0, 1_000_000
MAX_MODE = 2 / (math.pi - 2)
"""Largest scale at which `ModeLevels` is a distribution: beyond it the map from u to the level turns back."""

INDEX_SHIFT = 5.0
"""Shift of the grid of which DiffSynth tells ranges as shares of its entries, from the noisiest on."""


@runtime_checkable
class Levels(Protocol):
    """Distribution of the noise levels of a training batch."""

    def draw(self, shape: tuple[int, ...], generator: torch.Generator, step: int) -> Float[Tensor, "..."]:
        """Draw the levels sigma of a step, float32 in (0, 1); the first axis is the batch."""
        ...

    def within(self, low: float, high: float) -> "Levels":
        """Return the part of the distribution from `low` up to, but without, `high`, as one of several experts needs.

        Raises UsageError where nothing is left of it.
        """
        ...


@runtime_checkable
class InvertibleLevels(Levels, Protocol):
    """Distribution with a quantile function and its inverse, so that a part of it is drawn as the whole is."""

    @property
    def stratified(self) -> bool:
        """Tell whether each of the n equal parts of the distribution holds exactly one of the n levels of a batch."""
        ...

    def quantile(self, u: Float[Tensor, "..."], step: int) -> Float[Tensor, "..."]:
        """Return the level below which a share `u` in (0, 1) of the levels lies, in float64."""
        ...

    def share_below(self, level: float, step: int) -> float:
        """Return the share of the levels that lie below one in [0, 1]."""
        ...


class _Drawn:
    """Drawing, from the quantile function of an `InvertibleLevels`."""

    __slots__ = ()

    def draw(
        self: InvertibleLevels, shape: tuple[int, ...], generator: torch.Generator, step: int
    ) -> Float[Tensor, "..."]:
        """See `Levels`."""
        return drawn(self, shape, generator, step)

    def within(self: InvertibleLevels, low: float, high: float) -> "LevelRange":
        """See `Levels`."""
        return LevelRange(sampling=self, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSampling(_Drawn):
    """Noise levels drawn uniformly and shifted: sigma = S(u) of a uniform u (`solvers.levels.shifted`).

    From step `late_from` on with `late_shift`, where there is one: first what a video shows, which is decided
    near pure noise, then how it is drawn.
    """

    shift: float = 5.0
    late_shift: float | None = None
    late_from: int = 0
    stratified: bool = True

    def __post_init__(self) -> None:
        for shift in (self.shift, self.late_shift):
            if shift is not None and not shift > 0:
                raise UsageError(
                    f"the shift of the noise levels must be above 0, got {shift}; Wan trains with 5",
                    code="value_out_of_range",
                )

    def quantile(self, u: Float[Tensor, "..."], step: int) -> Float[Tensor, "..."]:
        return shifted(u, self.shift_at(step))

    def share_below(self, level: float, step: int) -> float:
        return shifted(level, 1 / self.shift_at(step))

    def shift_at(self, step: int) -> float:
        """Return the shift of a step."""
        return self.shift if self.late_shift is None or step < self.late_from else self.late_shift


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitNormalLevels(_Drawn):
    """Logit-normal levels, shifted: sigma = S(sigmoid(mean + std z)) of a normal z, most of them in the middle.

    A shift is a mean: S(sigmoid(y)) = sigmoid(y + ln shift). Esser et al. 2024, "Scaling rectified flow transformers",
    section 3.1. Raises UsageError for numbers out of range.
    """

    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0
    stratified: bool = True

    def __post_init__(self) -> None:
        settle(
            self,
            mean=real("the mean of logit-normal levels", self.mean, -10.0, 10.0),
            std=real("the std of logit-normal levels", self.std, 0.01, 10.0),
            shift=_checked_shift(self.shift),
        )

    def quantile(self, u: Float[Tensor, "..."], step: int) -> Float[Tensor, "..."]:
        return shifted(torch.sigmoid(self.mean + self.std * torch.special.ndtri(u)), self.shift)

    def share_below(self, level: float, step: int) -> float:
        if not 0 < level < 1:
            return float(level >= 1)
        unshifted = shifted(level, 1 / self.shift)
        score = (math.log(unshifted / (1 - unshifted)) - self.mean) / self.std
        return 0.5 * math.erfc(-score / math.sqrt(2))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeLevels(_Drawn):
    """Levels with a mode in the middle (`scale` > 0) or fewer there (< 0), shifted; 0 is uniform.

    sigma = S(u + scale (u - sin²(pi u / 2))): Esser et al. 2024, section 3.1, with u for 1 - u. Raises UsageError for
    numbers out of range: scale from -1 to 2 / (pi - 2).
    """

    scale: float = 1.29
    shift: float = 1.0
    stratified: bool = True

    def __post_init__(self) -> None:
        scale = real("the scale of mode levels", self.scale, -1.0, MAX_MODE)
        settle(self, scale=scale, shift=_checked_shift(self.shift))

    def quantile(self, u: Float[Tensor, "..."], step: int) -> Float[Tensor, "..."]:
        return shifted(u + self.scale * (u - torch.sin(math.pi / 2 * u).square()), self.shift)

    def share_below(self, level: float, step: int) -> float:
        return _inverse(lambda u: float(self.quantile(torch.tensor(u, dtype=torch.float64), step)), level)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridLevels(_Drawn):
    """Levels of a grid, each as often as the others: S(k / count) for k = 1 .. count.

    DiffSynth draws from it with a shift of 5, FastVideo with 3, musubi's `sigma` and ai-toolkit's `linear` with 1.
    The last, which is pure noise, is drawn as the float32 before 1. Raises UsageError for numbers out of range.
    """

    shift: float = 5.0
    count: int = 1000
    stratified: bool = True

    def __post_init__(self) -> None:
        count = whole("the count of grid levels", self.count, 1, MAX_COUNT)
        settle(self, shift=_checked_shift(self.shift), count=count)

    def quantile(self, u: Float[Tensor, "..."], step: int) -> Float[Tensor, "..."]:
        return shifted(self._entries(u), self.shift)

    def share_below(self, level: float, step: int) -> float:
        """Return the share of the entries below a level, which is a whole number of them; all are below 1, as drawn."""
        if level >= 1:
            return 1.0
        entries = torch.arange(1, self.count + 1, dtype=torch.float64) / self.count
        return int((shifted(entries, self.shift) < level).sum()) / self.count

    def _entries(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return ((u * self.count).floor() + 1).clamp(max=self.count) / self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRange:
    """Levels of `sampling` from `low` up to, but without, `high`: those at timesteps of an expert.

    Their density is that of `sampling`. Raises UsageError unless 0 <= low < high <= 1, and where `sampling` has no
    level between them.
    """

    sampling: InvertibleLevels
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise UsageError(
                f"no noise levels lie between {self.low} and {self.high}; give two numbers from 0 (clean) to 1 "
                "(noise), the lower one first",
                code="value_out_of_range",
            )
        if not self.sampling.share_below(self.low, 0) < self.sampling.share_below(self.high, 0):
            raise UsageError(
                f"{self.sampling} has no level from {self.low} up to {self.high}; give a wider range, or other levels",
                code="value_out_of_range",
            )

    def draw(self, shape: tuple[int, ...], generator: torch.Generator, step: int) -> Float[Tensor, "..."]:
        """See `Levels`."""
        return drawn(self.sampling, shape, generator, step, low=self.low, high=self.high)

    def within(self, low: float, high: float) -> "LevelRange":
        """See `Levels`."""
        return LevelRange(sampling=self.sampling, low=max(self.low, low), high=min(self.high, high))


def drawn(
    levels: InvertibleLevels,
    shape: tuple[int, ...],
    generator: torch.Generator,
    step: int,
    *,
    low: float = 0.0,
    high: float = 1.0,
) -> Float[Tensor, "..."]:
    """Draw levels sigma in the open interval (0, 1), from `low` up to but without `high`, float32.

    They are on the generator's device: sigma = Q(u) of the quantile function Q and a uniform u, which is drawn between
    the shares of the levels below `low` and `high`. Stratified: along the first axis (the batch) each of the `n` equal
    parts of (0, 1) holds exactly one u, in random order. Every level is still distributed as it is by itself, but the
    mean of a batch varies far less.
    """
    device = generator.device
    u = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    if levels.stratified:
        order = torch.rand(shape, generator=generator, device=device, dtype=torch.float64).argsort(dim=0)
        u = (order + u) / shape[0]
    if (low, high) != (0.0, 1.0):
        first, last = levels.share_below(low, step), levels.share_below(high, step)
        u = first + u * (last - first)
    return levels.quantile(u.clamp(_OPEN, 1 - _OPEN), step).float().clamp(*_float32_bounds(low, high))


def level_shares(sigma: Float[Tensor, " n"], bins: int = 10) -> tuple[float, ...]:
    """Return the histogram of drawn levels: the share of them in each of `bins` equal parts of [0, 1].

    Raises UsageError for no level at all.
    """
    if not sigma.numel():
        raise UsageError("a histogram of no noise levels was asked for; draw some", code="value_out_of_range")
    counts = (sigma.double().flatten() * bins).floor().clamp(0, bins - 1).long().bincount(minlength=bins)
    return tuple((counts / sigma.numel()).tolist())


def level_range(text: str) -> tuple[float, float]:
    """Return the lowest and the highest noise level of a range of timesteps such as 875-1000, as sigma in [0, 1].

    Raises UsageError for anything else: also for shares such as 0.875-1, which may be those of the entries of a grid in
    another program, with the timesteps that they mean.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*", text)
    if match is None:
        raise UsageError(
            f"{text!r} is no range of noise levels; give two timesteps from 0 (clean) to 1000 (noise), as 875-1000",
            code="bad_value",
        )
    low, high = map(float, match.groups())
    if high <= 1:
        raise UsageError(_share_told(text, low, high), code="levels_range_is_share")
    if not low < high <= TIMESTEPS:
        raise UsageError(
            f"{text!r} is no range of noise levels; the lower timestep comes first, and none is above {TIMESTEPS}",
            code="value_out_of_range",
        )
    return low / TIMESTEPS, high / TIMESTEPS


def _share_told(text: str, low: float, high: float) -> str:
    """Say which timesteps a range of shares may mean."""
    first, last = (shifted(1 - share, INDEX_SHIFT) * TIMESTEPS for share in (high, low))
    return (
        f"{text!r} is a range of shares, and noise levels are told as timesteps from 0 to {TIMESTEPS}: if these are "
        f"shares of {TIMESTEPS}, give {low * TIMESTEPS:.4g}-{high * TIMESTEPS:.4g}; if they are DiffSynth's "
        f"min_timestep_boundary and max_timestep_boundary, which count the entries of its grid of shift "
        f"{INDEX_SHIFT:g} from the noisiest on, give {first:.0f}-{last:.0f}"
    )


def _checked_shift(shift: object) -> float:
    return real("the shift of the noise levels", shift, 1 / MAX_SHIFT, MAX_SHIFT)


def _inverse(rising: Callable[[float], float], value: float) -> float:
    """Return the number in [0, 1] at which a rising function has a value, by bisection."""
    low, high = 0.0, 1.0
    if value <= rising(low):
        return low
    if value >= rising(high):
        return high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return high


def _float32_bounds(low: float, high: float) -> tuple[float, float]:
    """Return the lowest float32 of at least `low` and the highest below `high`, both within (0, 1)."""
    lowest, highest = np.float32(low), np.float32(high)
    if float(lowest) < low:
        lowest = np.nextafter(lowest, np.float32(1))
    if float(highest) >= high:
        highest = np.nextafter(highest, np.float32(0))
    return max(float(lowest), _OPEN), float(highest)
