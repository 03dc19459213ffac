"""An evaluation as one HTML page that needs nothing else: tables, and videos with what was read of them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from PIL import Image

from kinoform.evaluation.benchmark import Place
from kinoform.evaluation.report import Named, Report
from kinoform.evaluation.skill import Evaluation
from kinoform.evaluation.style import STYLE
from kinoform.evaluation.tables import MARK, Table, cost_table, label, tables
from kinoform.evaluation.verdict import Verdict
from kinoform.media.image_writer import webp
from kinoform.media.video import Video

NOTE = f"""In brackets 95 % intervals: Wilson's of shares, Bonett and Price's of paired differences, marked {MARK} where
they exclude 0. Codec ceiling: the same scenes rendered, encoded and decoded. Background drift: of 255, over prompts
with a plain background."""

BAD = ("binding_error", "former_motion")
"""Marks of which few are good."""


def image(video: Video) -> bytes:
    """The video as an animated webp."""
    return webp([Image.fromarray(frame) for frame in video.frames], fps=video.fps)


def page(report: Report, *, command: str, images: Mapping[Place, bytes], more: Iterable[str] = ()) -> str:
    """The page, with `more` (HTML) at its end; videos whose `images` are given are shown, the others only counted.

    There is no date in it: the same evaluation gives the same page but for the seconds a video takes.
    """
    sides = [side[0] for side in report.sides]
    title = f"{' and '.join(report.names)}: videos that show what was asked"
    about = [*settings_of(report.names, sides), f'<p class="faint">{escape(NOTE)}</p>', *table_of(cost_table(report))]
    return document(title, command, [*about, *_levels(report, images), *more], sides=len(sides))


def document(title: str, command: str, body: Iterable[str], *, sides: int) -> str:
    """A page of this `body` (HTML), under its title and the command that makes it; for so many videos side by side."""
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


def settings_of(names: Sequence[str], sides: Sequence[Named]) -> Iterator[str]:
    """A line for each side: its model, and how it made its videos."""
    for name, side in zip(names, sides, strict=True):
        settings = ", ".join(f"{key} {value}" for key, value in side.settings.items())
        yield f"<p>{escape(name)}: model <code>{escape(side.fingerprint)}</code>, {escape(settings)}</p>"


def table_of(table: Table) -> Iterator[str]:
    yield '<div class="wide"><table>'
    yield f"<caption>{escape(table.title)}</caption>"
    yield "<thead><tr>" + "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.heading) + "</tr></thead>"
    yield "<tbody>"
    for name, *cells in table.rows:
        values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        yield f'<tr><th scope="row">{escape(name)}</th>{values}</tr>'
    yield "</tbody></table></div>"


def figure_of(encoded: bytes, verdict: Verdict, name: str) -> str:
    """A video, what was read of it, and each attribute as right or wrong, in a sign as well as a colour."""
    marks = " ".join(
        f'<span class="{"right" if right else "wrong"}">{"✓" if right else "✗"}&nbsp;{escape(label(attribute))}</span>'
        for attribute, right in _marks(verdict)
    )
    heading = f"<p>{escape(name)}</p>" if name else ""
    return (
        f'<figure><img src="data:image/webp;base64,{b64encode(encoded).decode()}" alt="{escape(verdict.read)}">'
        f"<figcaption>{heading}<p>{marks}</p><p>read: {escape(verdict.read)}</p></figcaption></figure>"
    )


def _levels(report: Report, images: Mapping[Place, bytes]) -> Iterator[str]:
    for place, evaluation in enumerate(report.first):
        yield f"<h2>{escape(evaluation.level)}</h2>"
        for table in tables(report):
            if table.level == evaluation.level:
                yield from table_of(table)
        sides = [evaluation, *report.other[place : place + 1]]
        for number in range(len(evaluation.splits)):
            yield from _videos(report, sides, number, images)


def _videos(report: Report, sides: list[Evaluation], place: int, images: Mapping[Place, bytes]) -> Iterator[str]:
    """The cards of one split: a prompt, and its video by each side."""
    level, split = sides[0].level, sides[0].splits[place]
    numbers = [number for number in range(len(split.videos)) if Place(0, level, split.split, number) in images]
    if not numbers:
        return
    yield f"<h3>{escape(level)}, {escape(split.split)}: {len(numbers)} of {len(split.videos)} videos</h3>"
    yield '<div class="videos">'
    for number in numbers:
        verdicts = [side.splits[place].videos[number].video for side in sides]
        right = all(verdict.marks["all_right"] for verdict in verdicts)
        yield f'<div class="card{"" if right else " wrong"}">'
        yield f"<p>{escape(split.videos[number].prompt)}</p>"
        yield '<div class="pair">'
        for side, verdict in enumerate(verdicts):
            name = report.names[side] if len(verdicts) > 1 else ""
            yield figure_of(images[Place(side, level, split.split, number)], verdict, name)
        yield "</div></div>"
    yield "</div>"


def _marks(verdict: Verdict) -> Iterator[tuple[str, bool]]:
    """Every mark so that right is good: what is bad is shown only where there is any."""
    for name, mark in verdict.marks.items():
        if name not in BAD:
            yield name, mark
        elif mark:
            yield name, False
