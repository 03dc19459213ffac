"""Reports as tables of text, for the terminal and the page alike."""

from __future__ import annotations

from dataclasses import dataclass

from kinoform.evaluation.cost import VideoFlops
from kinoform.evaluation.paired import Difference
from kinoform.evaluation.report import Report
from kinoform.evaluation.skill import Evaluation, Share, SplitSkill, mean_drift

LABELS = {"size": "size, where said", "all_right_and_steady": "all right, steady"}
"""Names of rows in tables, which must fit 80 columns, where they are not those of attributes."""

MARK = "*"
"""Behind a difference whose interval excludes 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The first cell of `heading` and of every row names the row."""

    level: str
    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(report: Report) -> tuple[Table, ...]:
    """One table a level; with two sides one a level and split instead, with the difference of each share.

    The last one, of no level, is `cost_table`.
    """
    if not report.other:
        return (*(_alone(evaluation) for evaluation in report.first), cost_table(report))
    beside = (
        _beside(report, level, mine, theirs)
        for level, other in zip(report.first, report.other, strict=True)
        for mine, theirs in zip(level.splits, other.splits, strict=True)
    )
    return (*beside, cost_table(report))


def cost_table(report: Report) -> Table:
    """What a video takes on each side: seconds, the mean over all videos, and operations."""
    seconds = [
        [video.seconds for evaluation in side for split in evaluation.splits for video in split.videos]
        for side in report.sides
    ]
    flops = [side[0].flops for side in report.sides]
    return Table(
        level="",
        title="what a video takes",
        heading=("", *report.names),
        rows=(
            ("seconds a video", *(f"{sum(each) / len(each):.2f}" for each in seconds)),
            ("GFLOP a video", *map(flops_cell, flops)),
            ("of these the transformer", *("-" if each is None else _giga(each.transformer) for each in flops)),
        ),
    )


def _alone(evaluation: Evaluation) -> Table:
    splits = evaluation.splits
    rows = [
        (
            label(name),
            *(share_cell(split.skill[name]) for split in splits),
            _pooled([split.ceiling[name] for split in splits]),
            f"{evaluation.chance[name]:.3f}",
        )
        for name in evaluation.chance
    ]
    constancy = _pooled([split.ceiling_constancy for split in splits])
    drift = _number(mean_drift([video.ceiling for split in splits for video in split.videos]))
    rows += [
        ("binding error", *(share_cell(split.binding_error) for split in splits), "", ""),
        ("count constancy", *(share_cell(split.count_constancy) for split in splits), constancy, ""),
        ("background drift", *(_number(split.background_drift) for split in splits), drift, ""),
        ("PSNR, dB", *("" for _ in splits), _mean([split.ceiling_psnr for split in splits]), ""),
        ("PSNR on objects, dB", *("" for _ in splits), _mean([split.ceiling_foreground_psnr for split in splits]), ""),
        ("seconds a video", *(f"{split.seconds_per_video:.2f}" for split in splits), "", ""),
    ]
    return Table(
        level=evaluation.level,
        title=f"{evaluation.level}: videos that show what was asked, of {len(splits[0].videos)} a split",
        heading=("", *(split.split for split in splits), "codec ceiling", "chance"),
        rows=tuple(rows),
    )


def _beside(report: Report, evaluation: Evaluation, mine: SplitSkill, theirs: SplitSkill) -> Table:
    level, split = evaluation.level, mine.split
    found = {each.attribute: each for each in report.differences if (each.level, each.split) == (level, split)}
    pairs = {name: (mine.skill[name], theirs.skill[name]) for name in mine.skill} | {
        "binding_error": (mine.binding_error, theirs.binding_error),
        "count_constancy": (mine.count_constancy, theirs.count_constancy),
    }
    rows = [(label(name), *map(share_cell, pair), difference_cell(found[name])) for name, pair in pairs.items()]
    rows += [
        ("background drift", _number(mine.background_drift), _number(theirs.background_drift), ""),
        ("seconds a video", f"{mine.seconds_per_video:.2f}", f"{theirs.seconds_per_video:.2f}", ""),
    ]
    return Table(
        level=level,
        title=f"{level}, {split}: videos that show what was asked, of {len(mine.videos)}",
        heading=("", *report.names, "difference"),
        rows=tuple(rows),
    )


def label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


def flops_cell(flops: VideoFlops | None) -> str:
    return "-" if flops is None else _giga(flops.total)


def share_cell(share: Share) -> str:
    return f"{share.share:.2f} [{share.low:.2f}, {share.high:.2f}]" if share.trials else "-"


def difference_cell(found: Difference) -> str:
    if not found.trials:
        return "-"
    mark = f" {MARK}" if found.excludes_zero else ""
    return f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]{mark}"


def _pooled(shares: list[Share]) -> str:
    trials = sum(share.trials for share in shares)
    return f"{sum(share.right for share in shares) / trials:.2f}" if trials else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _giga(operations: int) -> str:
    return f"{operations / 1e9:.2f}"


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.1f}"
