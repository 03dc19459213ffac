"""The figures of inputs as tables of text, for the terminal and the page alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kinoform.evaluation.inputs.report import LEVEL, InputsReport
from kinoform.evaluation.inputs.skill import CaseSkill
from kinoform.evaluation.tables import Table, difference_cell, flops_cell, label, share_cell

FIGURES: Mapping[str, str] = {
    "kept_psnr": "kept PSNR, dB",
    "seam_delta_e": "seam Delta E",
}
"""What tables call the figures."""


def inputs_tables(report: InputsReport) -> tuple[Table, ...]:
    """One table a case; with two sides their figures and the difference of each share, without ceiling and chance."""
    if report.other is None:
        return tuple(_alone(report, case) for case in report.first.cases)
    pairs = zip(report.first.cases, report.other.cases, strict=True)
    return tuple(_beside(report, mine, theirs) for mine, theirs in pairs)


def _alone(report: InputsReport, case: CaseSkill) -> Table:
    rows = [
        (
            label(mark),
            share_cell(share),
            f"{case.ceiling[mark].share:.2f}" if mark in case.ceiling else "",
            f"{case.chance[mark]:.3f}" if mark in case.chance else "",
        )
        for mark, share in case.skill.items()
    ]
    rows += [
        (said, _figure(case, name), _number(case.ceiling_figures.get(name)), "")
        for name, said in FIGURES.items()
        if name in case.figures
    ]
    rows.append(("seconds a video", f"{case.seconds_per_video:.2f}", "", ""))
    if case.flops is not None:
        rows.append(("GFLOP a video", flops_cell(case.flops), "", ""))
    heading = ("", "videos", "codec ceiling", "chance")
    return Table(level=LEVEL, title=_title(report, [case]), heading=heading, rows=tuple(rows))


def _beside(report: InputsReport, mine: CaseSkill, theirs: CaseSkill) -> Table:
    rows = [
        (
            label(each.attribute),
            share_cell(mine.skill[each.attribute]),
            share_cell(theirs.skill[each.attribute]) if each.attribute in theirs.skill else "-",
            difference_cell(each),
        )
        for each in report.differences[mine.name]
    ]
    rows += [
        (said, _figure(mine, name), _figure(theirs, name), "") for name, said in FIGURES.items() if name in mine.figures
    ]
    rows.append(("seconds a video", f"{mine.seconds_per_video:.2f}", f"{theirs.seconds_per_video:.2f}", ""))
    if mine.flops is not None or theirs.flops is not None:
        rows.append(("GFLOP a video", flops_cell(mine.flops), flops_cell(theirs.flops), ""))
    heading = ("", *report.names, "difference")
    return Table(level=LEVEL, title=_title(report, [mine, theirs]), heading=heading, rows=tuple(rows))


def _title(report: InputsReport, cases: Sequence[CaseSkill]) -> str:
    first = cases[0]
    joined = f" ({', '.join(first.joins)})" if first.joins else ""
    without = [
        f"; {name} takes no {' and no '.join(case.left_out)}"
        for name, case in zip(report.names, cases, strict=True)
        if case.left_out
    ]
    return f"{first.name}{joined}, of {len(first.videos)} held-out videos{''.join(without)}"


def _figure(case: CaseSkill, name: str) -> str:
    """The mean, and in brackets how far it is from the codec's."""
    if name not in case.figures:
        return "-"
    value, ceiling = case.figures[name], case.ceiling_figures.get(name)
    return f"{value:.2f}" if ceiling is None else f"{value:.2f} ({value - ceiling:+.2f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
