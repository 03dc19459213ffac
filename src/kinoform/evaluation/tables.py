"""Reports as tables of text, for the terminal and the page alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kinoform.evaluation.metrics import CaseMetrics, Share, VideoFlops
from kinoform.evaluation.report import Difference, Report

LABELS = {"size": "size, where said", "all_right_and_steady": "all right, steady"}
"""Names of rows in tables, which must fit 80 columns, where they are not those of marks."""

FIGURES: Mapping[str, str] = {
    "kept_psnr": "kept PSNR, dB",
    "boundary_delta_e": "boundary Delta E",
    "background_drift": "background drift",
    "psnr": "PSNR, dB",
    "foreground_psnr": "PSNR on objects, dB",
}
"""Names of the figures in tables."""

MARK = "*"
"""Behind a difference whose interval excludes 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The first cell of `heading` and of every row names the row; `cases` are the names of those that it is of."""

    title: str
    cases: tuple[str, ...]
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(report: Report) -> tuple[Table, ...]:
    """Lay out a report: one side with its cases beside each other, several with a table or two for each case."""
    if report.others:
        return tuple(table for cases in report.cases() for table in _compared(report, cases))
    groups: dict[str, list[CaseMetrics]] = {}
    for case in report.first.cases:
        groups.setdefault(case.table, []).append(case)
    return tuple(_alone(report, name, cases) for name, cases in groups.items())


def label(name: str) -> str:
    """Return what tables call a mark."""
    return LABELS.get(name, name.replace("_", " "))


def _alone(report: Report, name: str, cases: Sequence[CaseMetrics]) -> Table:
    """Set cases of one side beside the codec's ceiling, over all of them, and chance."""
    rows = [
        (
            label(mark),
            *(_share_cell(case.skill[mark]) for case in cases),
            _pooled([case.ceiling[mark] for case in cases if mark in case.ceiling]),
            f"{cases[0].chance[mark]:.3f}" if mark in cases[0].chance else "",
        )
        for mark in cases[0].skill
    ]
    rows += [
        (title, *(_figure(case, key) for case in cases), _ceiling(cases, key), "")
        for key, title in FIGURES.items()
        if any(key in case.figures or key in case.ceiling_figures for case in cases)
    ]
    rows += [(title, *cells, "", "") for title, *cells in _cost(cases)]
    single = len(cases) == 1
    columns = ("videos",) if single else tuple(case.name.removeprefix(name).strip() for case in cases)
    title = _title(report, cases[:1]) if single else f"{name}: of {len(cases[0].videos)} videos each{_at(report)}"
    return Table(
        title=title,
        cases=tuple(case.name for case in cases),
        heading=("", *columns, "codec ceiling", "chance"),
        rows=tuple(rows),
    )


def _compared(report: Report, cases: Sequence[CaseMetrics]) -> Iterator[Table]:
    """Set one case of several sides side by side; the differences stand behind two, and of more in a table below."""
    mine, pair = cases[0], len(cases) == 2
    differences = {
        label(mark): tuple(_difference_cell(by_case[mine.name][mark]) for by_case in report.differences)
        for mark in mine.skill
    }
    rows = [
        (label(mark), *(_share_cell(case.skill[mark]) if mark in case.skill else "-" for case in cases))
        for mark in mine.skill
    ]
    figures = [
        *((title, *(_figure(case, key) for case in cases)) for key, title in FIGURES.items() if key in mine.figures),
        *_cost(cases),
    ]
    title = _title(report, cases)
    if pair:
        whole = [(*row, *differences[row[0]]) for row in rows] + [(*row, "") for row in figures]
        yield Table(title=title, cases=(mine.name,), heading=("", *report.names, "difference"), rows=tuple(whole))
        return
    yield Table(title=title, cases=(mine.name,), heading=("", *report.names), rows=(*rows, *figures))
    yield Table(
        title=f"{mine.name}: difference of each to {report.names[0]}",
        cases=(),
        heading=("", *report.names[1:]),
        rows=tuple((name, *cells) for name, cells in differences.items()),
    )


def _cost(cases: Sequence[CaseMetrics]) -> Iterator[tuple[str, ...]]:
    """Yield what a video takes: seconds, the mean, and operations where they are told."""
    yield ("seconds a video", *(f"{case.seconds_per_video:.2f}" for case in cases))
    if any(case.flops is not None for case in cases):
        yield ("GFLOP a video", *(_giga(case.flops, "total") for case in cases))
        yield ("transformer GFLOP", *(_giga(case.flops, "transformer") for case in cases))


def _title(report: Report, cases: Sequence[CaseMetrics]) -> str:
    first = cases[0]
    joined = f" ({', '.join(first.joins)})" if first.joins else ""
    without = [
        f"; {name} takes no {' and no '.join(case.left_out)}"
        for name, case in zip(report.names, cases, strict=True)
        if case.left_out
    ]
    return f"{first.name}{joined}: of {len(first.videos)} videos{_at(report)}{''.join(without)}"


def _at(report: Report) -> str:
    """Return the size of all videos in words; sides whose sizes differ have them in their names."""
    sizes = {side.size for side in report.sides}
    return f" at {sizes.pop()}" if len(sizes) == 1 else ""


def _figure(case: CaseMetrics, key: str) -> str:
    """Write the mean, and in brackets how far it is from the codec's."""
    if key not in case.figures:
        return ""
    value, ceiling = case.figures[key], case.ceiling_figures.get(key)
    return f"{value:.2f}" if ceiling is None else f"{value:.2f} ({value - ceiling:+.2f})"


def _ceiling(cases: Sequence[CaseMetrics], key: str) -> str:
    """Write the mean of the codec over all cases, which have equally many videos."""
    values = [case.ceiling_figures[key] for case in cases if key in case.ceiling_figures]
    return f"{sum(values) / len(values):.2f}" if values else ""


def _share_cell(share: Share) -> str:
    return f"{share.share:.2f} [{share.low:.2f}, {share.high:.2f}]" if share.trials else "-"


def _difference_cell(difference: Difference) -> str:
    if not difference.trials:
        return "-"
    mark = f" {MARK}" if difference.excludes_zero else ""
    return f"{difference.difference:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]{mark}"


def _pooled(shares: Sequence[Share]) -> str:
    trials = sum(share.trials for share in shares)
    return f"{sum(share.right for share in shares) / trials:.2f}" if trials else ""


def _giga(flops: VideoFlops | None, name: str) -> str:
    return "-" if flops is None else f"{getattr(flops, name) / 1e9:.2f}"
