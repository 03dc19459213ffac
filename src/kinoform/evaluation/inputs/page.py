"""What models made of their inputs as one HTML page: tables, and videos beside what was handed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape

import numpy as np

from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.evaluation.inputs.benchmark import InputsPlace
from kinoform.evaluation.inputs.case import Case
from kinoform.evaluation.inputs.report import InputsReport
from kinoform.evaluation.inputs.skill import CaseSkill
from kinoform.evaluation.inputs.tables import inputs_tables
from kinoform.evaluation.page import document, figure_of, settings_of, table_of
from kinoform.evaluation.tables import MARK
from kinoform.media.video import Video

NOTE = f"""In brackets behind shares 95 % intervals, Wilson's, and Bonett and Price's of paired differences, the latter
marked {MARK} where they exclude 0; behind decibels how far they are from the codec's. Codec ceiling: the scenes that
were asked for, rendered, encoded and decoded. Each video stands to the right of what was handed over: frames, the
source and its mask, references."""


def inputs_page(report: InputsReport, *, command: str, images: Mapping[InputsPlace, bytes]) -> str:
    """The page; videos whose `images` are given are shown, the others only counted."""
    title = f"{' and '.join(report.names)}: videos that follow their inputs"
    about = [*settings_of(report.names, report.sides), f'<p class="faint">{escape(NOTE)}</p>']
    return document(title, command, [*about, *sections(report, images)], sides=2 * len(report.sides))


def sections(report: InputsReport, images: Mapping[InputsPlace, bytes]) -> Iterator[str]:
    """Each case in turn: its table, and its videos whose `images` are given."""
    several = zip(*(side.cases for side in report.sides), strict=True)
    for table, cases in zip(inputs_tables(report), several, strict=True):
        yield f"<h2>{escape(cases[0].name)}</h2>"
        yield from table_of(table)
        if not cases[0].joins:
            yield from _videos(report, cases, images)


def strip(case: Case, video: Video) -> Video:
    """A video to the right of what it was made from, all of one height: still images, or a video and its mask."""
    given = [image.pixels for image in (*case.inputs[FRAMES].values(), *case.inputs[REFERENCE_IMAGES])]
    columns = [np.broadcast_to(each, (len(video.frames), *each.shape)) for each in given]
    source, mask = case.inputs[VIDEO], case.inputs[MASK]
    if source is not None and mask is not None:
        grey = np.stack([mask.values] * 3, axis=-1)
        columns = [source.frames, np.broadcast_to(grey, video.frames.shape), *columns]
    return replace(video, frames=np.concatenate([*columns, video.frames], axis=2))


def _videos(report: InputsReport, cases: Sequence[CaseSkill], images: Mapping[InputsPlace, bytes]) -> Iterator[str]:
    """The cards of one case: a prompt, and its video by each side."""
    first = cases[0]
    yield '<div class="videos">'
    for number in range(len(first.videos)):
        if InputsPlace(0, first.name, number) not in images:
            continue
        verdicts = [case.videos[number].video for case in cases]
        right = all(verdict.marks["all_right"] for verdict in verdicts)
        yield f'<div class="card{"" if right else " wrong"}"><p>{escape(first.videos[number].prompt)}</p>'
        yield '<div class="pair">'
        for side, verdict in enumerate(verdicts):
            name = report.names[side] if len(verdicts) > 1 else ""
            yield figure_of(images[InputsPlace(side, first.name, number)], verdict, name)
        yield "</div></div>"
    yield "</div>"
