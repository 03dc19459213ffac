"""A run as one HTML page that needs nothing else: curves, levels, samples over time, skipped steps, settings."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from kinoform.training.curves import Curve, chart, histogram, number
from kinoform.training.metrics import Measurement
from kinoform.training.run_log import LevelStep, SampleFile, StageLog

SHOWN_STEPS = 8
"""Steps whose samples are on the page: the first, the last, and some between."""

PAGE_BYTES = 48_000_000
"""Bytes of samples on a page at most; those that find no place are named."""

SHOWN_SKIPPED = 40
LEVEL_BINS = 24
"""Points of a curve of one noise level: each needs steps enough to have samples of it."""

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".mp4": "video/mp4"}

NOTE = """A line is the mean over a range of steps, the band behind it their lowest and highest values. The loss mixes
all noise levels, and is high wherever noise is: compare it with the same steps of another run, or look at one level by
itself. A validation loss that rises while the training loss falls is learning by heart."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1f; --faint: #5f5f68; --paper: #fff; --card: #f4f4f6; --line: #d8d8de;
  --l: 42%; --warn: #a33b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ea; --faint: #a0a0a8; --paper: #161618; --card: #202023;
  --line: #3a3a40; --l: 64%; --warn: #ffb27a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .5rem; }
h1 { margin-top: 0; }
.faint { color: var(--faint); font-weight: 400; }
.warn { color: var(--warn); font-weight: 600; }
.charts, .samples { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
figure { margin: 0; background: var(--card); border-radius: .4rem; padding: .6rem; min-width: 0; }
figcaption { font-weight: 600; margin-bottom: .3rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--line); }
.line { fill: none; stroke: hsl(var(--h) 70% var(--l)); stroke-width: 1.6; stroke-linejoin: round; }
.dot { fill: hsl(var(--h) 70% var(--l)); }
.band { fill: hsl(var(--h) 70% var(--l)); opacity: .2; }
.bar { fill: hsl(215 55% var(--l)); opacity: .75; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: .4rem 0 0; padding: 0;
  font-size: .8rem; font-variant-numeric: tabular-nums; }
.legend i { display: inline-block; width: .9em; height: .25em; margin-right: .35em; vertical-align: middle;
  background: hsl(var(--h) 70% var(--l)); }
.facts { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; margin: .5rem 0 1rem; padding: 0; list-style: none; }
.facts b { font-variant-numeric: tabular-nums; }
img, video { display: block; width: 100%; border-radius: .2rem; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { text-align: left; font-weight: 400; padding: .1rem 1rem .1rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
"""


def run_page(title: str, stages: Sequence[StageLog]) -> str:
    """Write the page of a run whose trainings these are."""
    space = _Space(PAGE_BYTES)
    body = [f'<p class="faint">{escape(NOTE)}</p>']
    for stage in stages:
        body += [f"<h2>{escape(stage.name)}</h2>", *_facts(stage)]
        body += ['<div class="charts">', *filter(None, _charts(stage)), "</div>"]
        body += [*_skipped(stage), *_samples(stage, space), *_settings(stage)]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>kinoform report: {escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            f"<h1>{escape(title)}</h1>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def _facts(stage: StageLog) -> Iterator[str]:
    if not stage.measurements:
        yield '<p class="warn">No step has been logged yet.</p>'
        return
    last, total = stage.measurements[-1], stage.total
    facts = [
        ("steps", f"{last.step + 1}" + (f" of {total}" if total is not None else "")),
        ("samples", number(last.samples)),
        ("hours", number(last.seconds / 3600)),
        ("operations", f"{number(last.flops)}FLOP"),
        ("skipped steps", str(len(stage.skipped))),
    ]
    if total is not None and 0 < last.step + 1 < total and (pace := _pace(stage.measurements[-200:])):
        facts.append(("hours to go, at the last pace", number((total - last.step - 1) / pace / 3600)))
    items = "".join(f"<li>{escape(name)} <b>{escape(value)}</b></li>" for name, value in facts)
    yield f'<ul class="facts">{items}</ul>'
    if stage.damaged:
        yield f'<p class="warn">{stage.damaged} lines of the log are damaged or out of order, and left out.</p>'


def _charts(stage: StageLog) -> Iterator[str]:
    entries = stage.measurements
    loss = [(item.step, item.loss) for item in entries if item.loss is not None]
    norm = [(item.step, item.gradient_norm) for item in entries if item.gradient_norm is not None]
    yield chart("Loss", "training, before clipping of gradients", [Curve(name="loss", points=tuple(loss), band=True)])
    yield chart("Loss by noise level", "training, sigma from 0 (clean) to 1 (noise)", _by_level(stage.levels))
    yield chart("Validation loss by noise level", "held-out clips, fixed noise", _validation(stage))
    yield histogram("Noise levels", "share of samples, by sigma", _drawn(stage.levels), stage.asked)
    yield chart("Gradient norm", "before clipping", [Curve(name="norm", points=tuple(norm), band=True, hue=280)])
    rates = tuple((item.step, item.learning_rate) for item in entries)
    yield chart("Learning rate", "AdamW's", [Curve(name="rate", points=rates, hue=150)], from_zero=True)
    speeds = tuple(_speeds(entries))
    yield chart("Speed", "samples/s", [Curve(name="samples/s", points=speeds, hue=190)], from_zero=True)
    memory = tuple((item.step, item.memory / 2**30) for item in stage.machine)
    yield chart("Peak memory", "GiB until then", [Curve(name="GiB", points=memory, hue=330)], from_zero=True)
    mfu = tuple((item.step, item.mfu) for item in stage.machine if item.mfu is not None)
    yield chart("MFU", "share of the device's peak operations", [Curve(name="MFU", points=mfu, hue=40)], from_zero=True)


def _hue(index: int, count: int) -> int:
    """Return the angle of a colour: blue for little noise, red for much."""
    return round(250 - 240 * index / max(1, count - 1))


def _by_level(steps: Sequence[LevelStep]) -> list[Curve]:
    bins = max((len(item.loss) for item in steps), default=0)
    curves = list[Curve]()
    for index in range(bins):
        values = ((item.step, item.loss[index]) for item in steps if index < len(item.loss))
        points = tuple((step, value) for step, value in values if value is not None)
        name = f"{index / bins:.1f}-{(index + 1) / bins:.1f}"
        curves.append(Curve(name=name, points=points, hue=_hue(index, bins), bins=LEVEL_BINS))
    return curves


def _validation(stage: StageLog) -> list[Curve]:
    levels = sorted({sigma for item in stage.validation for sigma in item.sigma})
    return [
        Curve(
            name=f"{sigma:g}",
            points=tuple(
                (item.step, item.loss[item.sigma.index(sigma)]) for item in stage.validation if sigma in item.sigma
            ),
            hue=_hue(index, len(levels)),
        )
        for index, sigma in enumerate(levels)
    ]


def _drawn(steps: Sequence[LevelStep]) -> list[float]:
    bins = len(steps[-1].count) if steps else 0
    counts = [sum(item.count[index] for item in steps if len(item.count) == bins) for index in range(bins)]
    return [count / sum(counts) for count in counts] if sum(counts) else []


def _speeds(entries: Sequence[Measurement]) -> Iterator[tuple[int, float]]:
    """Yield samples a second over some steps at a time: those between two runs took no time of their own."""
    every = max(1, len(entries) // 200)
    for start in range(0, len(entries) - every, every):
        first, last = entries[start], entries[start + every]
        if last.seconds > first.seconds:
            yield last.step, (last.samples - first.samples) / (last.seconds - first.seconds)


def _pace(entries: Sequence[Measurement]) -> float:
    """Return steps a second."""
    seconds = entries[-1].seconds - entries[0].seconds
    return (entries[-1].step - entries[0].step) / seconds if seconds > 0 else 0.0


def _skipped(stage: StageLog) -> Iterator[str]:
    if stage.skipped:
        shown = ", ".join(map(str, stage.skipped[:SHOWN_SKIPPED]))
        more = f" and {len(stage.skipped) - SHOWN_SKIPPED} more" if len(stage.skipped) > SHOWN_SKIPPED else ""
        yield f'<p class="warn">Skipped, since loss or gradient was not finite: steps {shown}{more}.</p>'


class _Space:
    """Bytes that are left on a page."""

    def __init__(self, left: int) -> None:
        self.left = left

    def taken(self, file: SampleFile) -> str | None:
        """Return a file as a data URI; None where there is no room, or the file cannot be read."""
        try:
            data = file.path.read_bytes() if file.path.stat().st_size <= self.left else None
        except OSError:
            return None
        if not data:
            return None
        self.left -= len(data)
        return f"data:{TYPES[file.path.suffix]};base64,{b64encode(data).decode()}"


def _samples(stage: StageLog, space: _Space) -> Iterator[str]:
    steps = sorted({item.step for item in stage.samples})
    if not steps:
        return
    count = min(SHOWN_STEPS, len(steps))
    shown = {steps[round(index * (len(steps) - 1) / max(1, count - 1))] for index in range(count)} | {steps[-1]}
    left_out = list[str]()
    told = f"of averaged weights, by step, {len(shown)} of {len(steps)} times"
    yield f'<h3>Samples <span class="faint">{told}</span></h3>'
    yield '<div class="samples">'
    played = {(item.step, item.name) for item in stage.samples if item.path.suffix == ".mp4"}
    for item in _newest_first(item for item in stage.samples if item.step in shown):
        if item.path.suffix != ".mp4" and (item.step, item.name) in played:
            continue  # the contact sheet of a video
        uri, label = space.taken(item), f"{item.step} {item.name}".strip()
        if uri is None:
            left_out.append(item.path.name)
            continue
        video = uri.startswith("data:video")
        shows = (
            f'<video src="{uri}" controls loop muted></video>' if video else f'<img src="{uri}" alt="{escape(label)}">'
        )
        yield f"<figure><figcaption>{escape(label)}</figcaption>{shows}</figure>"
    yield "</div>"
    if left_out:
        yield f'<p class="faint">Not on this page: {escape(", ".join(left_out))}.</p>'


def _newest_first(items: Iterable[SampleFile]) -> list[SampleFile]:
    return sorted(items, key=lambda item: (-item.step, item.name, item.path.suffix))


def _settings(stage: StageLog) -> Iterator[str]:
    if not stage.settings:
        yield '<p class="faint">Settings are shown after the first checkpoint.</p>'
        return
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in stage.settings.items()
    )
    yield f"<details><summary>{len(stage.settings)} settings</summary><table>{rows}</table></details>"
