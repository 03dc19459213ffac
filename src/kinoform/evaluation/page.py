"""An evaluation as one HTML page that needs nothing else: tables, and videos with what was read of them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape

import numpy as np
from PIL import Image

from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.evaluation.benchmark import VideoKey
from kinoform.evaluation.case import Case
from kinoform.evaluation.metrics import CaseMetrics
from kinoform.evaluation.report import Report
from kinoform.evaluation.result import VideoResult
from kinoform.evaluation.tables import MARK, Table, label, tables
from kinoform.media.image_writer import webp
from kinoform.media.video import Video

NOTE = f"""In brackets 95 % intervals: Wilson's of shares, Bonett and Price's of paired differences, marked {MARK} where
they exclude 0; behind other figures how far they are from the codec's. Codec ceiling: the scenes that were
asked for, rendered, encoded and decoded. Background drift: of 255, over prompts with a plain background. A video from
inputs stands to the right of them: frames, the source and its mask, references."""

BAD = ("binding_error", "former_motion")
"""Marks of which few are good."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1f; --faint: #66666e; --paper: #fff; --card: #f4f4f6; --line: #d8d8de;
  --right: #17713a; --wrong: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ea; --faint: #9a9aa2; --paper: #161618; --card: #202023;
  --line: #3a3a40; --right: #6fcf8f; --wrong: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .5rem; }
h1 { margin-top: 0; }
code { background: var(--card); padding: .1em .35em; border-radius: .25em; }
.faint, figcaption p + p { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; margin: .5rem 0 1rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; white-space: normal; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 400; }
.videos { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, calc(var(--sides) * 10rem)), 1fr));
  gap: .75rem; }
.card { background: var(--card); border-radius: .4rem; padding: .6rem; border-top: .3rem solid var(--right); }
.card > p { margin: 0 0 .4rem; font-weight: 600; }
.pair { display: grid; grid-template-columns: repeat(var(--sides), minmax(0, 1fr)); gap: .6rem; }
figure { margin: 0; }
img { display: block; width: 100%; max-width: 12rem; image-rendering: pixelated; border-radius: .2rem; }
figcaption { font-size: .85rem; }
figcaption p { margin: .3rem 0 0; }
.right { color: var(--right); }
.wrong { color: var(--wrong); }
p .wrong { font-weight: 600; }
.card.wrong { color: var(--ink); border-top-color: var(--wrong); }
"""


def thumbnail(case: Case, video: Video) -> bytes:
    """Encode as an animated webp a video to the right of what it was made from.

    All are of one height: still images, or a video and its mask.
    """
    images = [image.pixels for image in (*case.inputs[FRAMES].values(), *case.inputs[REFERENCE_IMAGES])]
    columns = [np.broadcast_to(pixels, (len(video.frames), *pixels.shape)) for pixels in images]
    source, mask = case.inputs[VIDEO], case.inputs[MASK]
    if source is not None and mask is not None:
        values = np.stack([mask.values] * 3, axis=-1)
        columns = [source.frames, np.broadcast_to(values, video.frames.shape), *columns]
    strip = replace(video, frames=np.concatenate([*columns, video.frames], axis=2))
    return webp([Image.fromarray(frame) for frame in strip.frames], fps=strip.fps)


def page(report: Report, *, command: str, images: Mapping[VideoKey, bytes]) -> str:
    """Write the page; videos whose `images` are given are shown, the others only counted.

    There is no date in it: the same evaluation gives the same page but for the seconds a video takes.
    """
    *names, last = report.names
    title = f"{' and '.join([', '.join(names), last] if names else [last])}: videos that show what was asked"
    body = [*_settings(report), f'<p class="faint">{escape(NOTE)}</p>']
    cases = {several[0].name: several for several in report.cases()}
    for table in tables(report):
        body += [f"<h2>{escape(table.title)}</h2>", *_table(table)]
        for name in table.cases:
            if not cases[name][0].joins:
                body += _videos(report, cases[name], images)
    return _document(title, command, body, sides=len(report.sides))


def _document(title: str, command: str, body: Iterable[str], *, sides: int) -> str:
    """Write a page of this `body` (HTML) under its title and command; `sides` videos stand side by side."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>kinoform evaluate: {escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            f'<body style="--sides: {sides}">',
            f"<h1>{escape(title)}</h1>",
            f"<p><code>{escape(command)}</code></p>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def _settings(report: Report) -> Iterator[str]:
    """Yield a line for each side: its model, and how it made its videos."""
    for name, side in zip(report.names, report.sides, strict=True):
        settings = ", ".join(f"{key} {value}" for key, value in side.options.items())
        yield f"<p>{escape(name)}: model <code>{escape(side.fingerprint)}</code>, {escape(settings)}</p>"


def _table(table: Table) -> Iterator[str]:
    yield '<div class="wide"><table>'
    yield f"<caption>{escape(table.title)}</caption>"
    yield "<thead><tr>" + "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.heading) + "</tr></thead>"
    yield "<tbody>"
    for name, *cells in table.rows:
        values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        yield f'<tr><th scope="row">{escape(name)}</th>{values}</tr>'
    yield "</tbody></table></div>"


def _videos(report: Report, cases: Sequence[CaseMetrics], images: Mapping[VideoKey, bytes]) -> Iterator[str]:
    """Yield the cards of one case: a prompt, and its video by each side."""
    first = cases[0]
    numbers = [number for number in range(len(first.videos)) if VideoKey(0, first.name, number) in images]
    if not numbers:
        return
    yield f"<h3>{escape(first.name)}: {len(numbers)} of {len(first.videos)} videos</h3>"
    yield '<div class="videos">'
    for number in numbers:
        results = [case.videos[number].video for case in cases]
        right = all(result.marks["all_right"] for result in results)
        yield f'<div class="card{"" if right else " wrong"}"><p>{escape(first.videos[number].prompt)}</p>'
        yield '<div class="pair">'
        for side, result in enumerate(results):
            name = report.names[side] if len(results) > 1 else ""
            yield _figure(images[VideoKey(side, first.name, number)], result, name)
        yield "</div></div>"
    yield "</div>"


def _figure(encoded: bytes, result: VideoResult, name: str) -> str:
    """Write a video, its reading, and each attribute as right or wrong, by a sign as well as a colour."""
    marks = " ".join(
        f'<span class="{"right" if right else "wrong"}">{"✓" if right else "✗"}&nbsp;{escape(label(attribute))}</span>'
        for attribute, right in _marks(result)
    )
    heading = f"<p>{escape(name)}</p>" if name else ""
    return (
        f'<figure><img src="data:image/webp;base64,{b64encode(encoded).decode()}" alt="{escape(result.read)}">'
        f"<figcaption>{heading}<p>{marks}</p><p>read: {escape(result.read)}</p></figcaption></figure>"
    )


def _marks(result: VideoResult) -> Iterator[tuple[str, bool]]:
    """Yield every mark so that right is good; bad marks are shown only where there are any."""
    for name, mark in result.marks.items():
        if name not in BAD:
            yield name, mark
        elif mark:
            yield name, False
