"""Curves and histograms as SVG, which a page holds as they are: no script, and colours that the page's style gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 10, 24
BINS = 160
"""Points of a curve at most; more are averaged over equal ranges of steps."""

MAX_RATIO = 25.0
"""Largest over smallest value from which on the axis is logarithmic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Mean, lowest and highest of the values in one range of steps, at the mean of these steps."""

    step: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Values by step. `hue` is the angle of its colour; `band` shows the lowest and highest beside the mean."""

    name: str
    points: tuple[tuple[int, float], ...]
    hue: int = 215
    band: bool = False
    bins: int = BINS

    def binned(self) -> list[Bin]:
        """Return the values averaged over equal ranges of steps."""
        if not self.points:
            return []
        first, last = self.points[0][0], self.points[-1][0]
        width = max(1, ceil((last - first + 1) / self.bins))
        parts: dict[int, list[tuple[int, float]]] = {}
        for point in self.points:
            parts.setdefault((point[0] - first) // width, []).append(point)
        result: list[Bin] = []
        for part in parts.values():
            values = [value for _, value in part]
            step = sum(step for step, _ in part) / len(part)
            result.append(Bin(step=step, mean=sum(values) / len(values), low=min(values), high=max(values)))
        return result


def chart(title: str, unit: str, curves: Sequence[Curve], *, from_zero: bool = False) -> str:
    """Draw curves over steps, with their legend where they are several; the empty string where there is no value.

    `from_zero`: the axis of values is linear and has 0, whatever the values.
    """
    drawn = [(curve, bins) for curve in curves if (bins := curve.binned())]
    if not drawn:
        return ""
    values = [v for curve, bins in drawn for item in bins for v in _extent(curve, item)]
    steps = [item.step for _, bins in drawn for item in bins]
    x = _Axis.linear(0.0, float(max(steps)), LEFT, WIDTH - RIGHT)
    fit = _Axis.fitting([0.0, *values] if from_zero else values, HEIGHT - BOTTOM, TOP)
    body = list(_frame(x, fit))
    for curve, bins in drawn:
        if curve.band:
            edge = [(x(b.step), fit(b.high)) for b in bins] + [(x(b.step), fit(b.low)) for b in reversed(bins)]
            body.append(f'<polygon class="band" style="--h:{curve.hue}" points="{_points(edge)}"/>')
        line = [(x(b.step), fit(b.mean)) for b in bins]
        if len(line) == 1:
            (cx, cy), *_ = line
            body.append(f'<circle class="dot" style="--h:{curve.hue}" cx="{cx:.1f}" cy="{cy:.1f}" r="3"/>')
        body.append(f'<polyline class="line" style="--h:{curve.hue}" points="{_points(line)}"/>')
    last = ", ".join(f"{curve.name} {number(bins[-1].mean)}" for curve, bins in drawn)
    legend = [(curve.name, curve.hue, number(bins[-1].mean)) for curve, bins in drawn] if len(drawn) > 1 else []
    return _figure(title, unit, body, f"{title} after {round(max(steps))} steps: {last}", legend)


def histogram(title: str, unit: str, shares: Sequence[float], asked: Sequence[float]) -> str:
    """Draw shares of equal parts of [0, 1] as bars, and those that were asked for as a line of steps over them."""
    if not shares:
        return ""
    x = _Axis.linear(0.0, 1.0, LEFT, WIDTH - RIGHT)
    y = _Axis.linear(0.0, max([*shares, *asked]) or 1.0, HEIGHT - BOTTOM, TOP)
    body, count = list(_frame(x, y)), len(shares)
    for index, share in enumerate(shares):
        left, right = x(index / count) + 1, x((index + 1) / count) - 1
        body.append(
            f'<rect class="bar" x="{left:.1f}" y="{y(share):.1f}" width="{right - left:.1f}" '
            f'height="{y(0) - y(share):.1f}"/>'
        )
    edge = [(x((index + side) / len(asked)), y(share)) for index, share in enumerate(asked) for side in (0, 1)]
    if edge:
        body.append(f'<polyline class="line" style="--h:25" points="{_points(edge)}"/>')
    told = ", ".join(f"{share:.3f}" for share in shares)
    legend = [("drawn", 215, ""), ("asked for", 25, "")] if edge else []
    return _figure(title, unit, body, f"{title}: {told}", legend)


def number(value: int | float) -> str:
    """Write a number in few characters: 0.0132, 1.2e-05, 3.4k, 2.1M."""
    if value == 0:
        return "0"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.2g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """Map from values to places, linear or logarithmic, with the values that it is marked at."""

    low: int | float
    high: int | float
    start: int | float
    end: int | float
    ticks: tuple[int | float, ...]
    logarithmic: bool = False

    @classmethod
    def linear(cls, low: int | float, high: int | float, start: int | float, end: int | float) -> _Axis:
        span = (high - low) or abs(high) or 1.0
        raw = span / 4
        size = 10 ** floor(log10(raw))
        step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
        first, last = floor(low / step + 1e-9), ceil((low + span) / step - 1e-9)
        ticks = tuple(index * step for index in range(first, last + 1))
        if start < end:  # steps end where they end
            return cls(low=low, high=low + span, start=start, end=end, ticks=tuple(t for t in ticks if t <= low + span))
        return cls(low=ticks[0], high=ticks[-1], start=start, end=end, ticks=ticks)

    @classmethod
    def fitting(cls, values: Sequence[float], start: int | float, end: int | float) -> _Axis:
        low, high = min(values), max(values)
        if low <= 0 or high / low < MAX_RATIO:
            return cls.linear(0.0 if 0 < low < high / 2 else low, high, start, end)
        first, last = floor(log10(low)), ceil(log10(high))
        every = ceil((last - first) / 5)
        ticks = tuple(10.0**power for power in range(first, last + 1, every))
        return cls(low=low, high=high, start=start, end=end, ticks=ticks, logarithmic=True)

    def __call__(self, value: int | float) -> float:
        low, high = (log10(self.low), log10(self.high)) if self.logarithmic else (self.low, self.high)
        value = log10(value) if self.logarithmic else value
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def marked(self) -> Iterable[tuple[float, str]]:
        for tick in self.ticks:
            if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9) or not self.logarithmic:
                yield self(tick), number(tick)


def _extent(curve: Curve, item: Bin) -> tuple[float, ...]:
    return (item.low, item.high) if curve.band else (item.mean,)


def _frame(x: _Axis, y: _Axis) -> Iterable[str]:
    for place, text in y.marked():
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>'
        yield f'<text x="{LEFT - 5}" y="{place + 3.5:.1f}" text-anchor="end">{text}</text>'
    for place, text in x.marked():
        anchor = "end" if place > WIDTH - RIGHT - 12 else "middle"
        yield f'<text x="{place:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{text}</text>'


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _figure(title: str, unit: str, body: Iterable[str], told: str, legend: Sequence[tuple[str, int, str]]) -> str:
    """Write a figure: what it tells in words is the name of the drawing, for those who do not see it."""
    entries = "".join(
        f'<li><i style="--h:{hue}"></i>{escape(name)} <b>{escape(value)}</b></li>' for name, hue, value in legend
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)} <span class="faint">{escape(unit)}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(told)}">{"".join(body)}</svg>'
        + (f'<ul class="legend">{entries}</ul>' if legend else "")
        + "</figure>"
    )
