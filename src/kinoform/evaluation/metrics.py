"""Metrics of many videos: shares with intervals and mean figures, for videos and for the ceiling of the codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from kinoform.evaluation.result import VideoResult
from kinoform.solvers.by_expert import written
from kinoform.world.score import wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Share of `trials` videos that were right, with its 95 % Wilson interval."""

    right: int
    trials: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """NaN without trials."""
        return self.right / self.trials if self.trials else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFlops:
    """Operations of one video as kinoform runs it, 2 per multiply-add; `total` includes those of the `transformer`."""

    total: int
    transformer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One video, and what the codec's reconstruction of the rendered scene shows; `seconds` to make.

    That of an edit is laid over the source as the edit was. `figures`: `kept_psnr`, in dB over the pixels that were
    given and shall stay, before the source is put back, at most 100; `boundary_delta_e` of an edit; `background_drift`,
    0 to 255, where the prompt has a plain background. Of the codec also `psnr` and `foreground_psnr`, in dB over the
    whole frame and over what objects cover.
    """

    prompt: str
    seed: int
    video: VideoResult
    ceiling: VideoResult
    figures: dict[str, float]
    ceiling_figures: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseMetrics:
    """The figures of one case, over its videos. What begins with `ceiling` is the codec's own.

    `skill`, `ceiling` and `chance` go by mark; a mark that only some videos have is counted over those. Figures are
    means over the videos that have them. `flops` are those of one video, None for an edit and where the model does
    not tell them. `left_out` are inputs that the model does not take and did not get. `table` is the case's table,
    in which other cases may stand beside it. `joins` are the names of the cases whose videos these are, empty for a
    case of its own.
    """

    name: str
    table: str
    joins: tuple[str, ...]
    left_out: tuple[str, ...]
    skill: dict[str, Share]
    ceiling: dict[str, Share]
    chance: dict[str, float]
    figures: dict[str, float]
    ceiling_figures: dict[str, float]
    seconds_per_video: float
    flops: VideoFlops | None
    videos: tuple[Trial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Evaluation of one model: all its cases, pooled ones last."""

    model: str
    fingerprint: str
    settings: dict[str, object]
    cases: tuple[CaseMetrics, ...]

    @property
    def size(self) -> str:
        """Return the size of the videos in words: width, height and frames."""
        return "{width}x{height}, {num_frames} frames".format_map(self.settings)

    @property
    def options(self) -> dict[str, object]:
        """Return the settings by the names of their options, which have one for width and height together."""
        rest = {name: written(item) if isinstance(item, Mapping) else item for name, item in self.settings.items()}
        width, height, num_frames = (rest.pop(name) for name in ("width", "height", "num_frames"))
        return {"size": f"{width}x{height}", "frames": num_frames, **rest}

    def case(self, name: str) -> CaseMetrics:
        """Return the case of this name. Raises KeyError where there is none."""
        return {case.name: case for case in self.cases}[name]

    def as_json(self) -> dict[str, object]:
        """Return plain values; the videos of cases that join others stand in those alone."""
        plain: dict[str, object] = asdict(replace(self, cases=()))
        return plain | {"cases": [asdict(replace(case, videos=()) if case.joins else case) for case in self.cases]}


def case_metrics(
    name: str,
    trials: Sequence[Trial],
    *,
    table: str,
    chance: Mapping[str, float],
    joins: tuple[str, ...] = (),
    left_out: tuple[str, ...] = (),
    flops: VideoFlops | None = None,
) -> CaseMetrics:
    """Count and average one case, from its videos, of which there is at least one."""
    videos, redrawn = [trial.video for trial in trials], [trial.ceiling for trial in trials]
    return CaseMetrics(
        name=name,
        table=table,
        joins=joins,
        left_out=left_out,
        skill=_shares(videos, chance),
        ceiling=_shares(redrawn, chance),
        chance=dict(chance),
        figures=_means([trial.figures for trial in trials]),
        ceiling_figures=_means([trial.ceiling_figures for trial in trials]),
        seconds_per_video=sum(trial.seconds for trial in trials) / len(trials),
        flops=flops,
        videos=tuple(trials),
    )


def pooled(name: str, cases: Sequence[CaseMetrics]) -> CaseMetrics:
    """Join several cases with equally many videos to one; its chance is the mean of theirs."""
    chance = {mark: sum(case.chance[mark] for case in cases) / len(cases) for mark in cases[0].chance}
    left_out = tuple(dict.fromkeys(item for case in cases for item in case.left_out))
    trials = [video for case in cases for video in case.videos]
    joins = tuple(case.name for case in cases)
    return case_metrics(name, trials, table=name, chance=chance, joins=joins, left_out=left_out)


def share_of(marks: Sequence[bool]) -> Share:
    """Count marks, with the interval of their share."""
    low, high = wilson(sum(marks), len(marks))
    return Share(right=sum(marks), trials=len(marks), low=low, high=high)


def _shares(results: Sequence[VideoResult], chance: Mapping[str, float]) -> dict[str, Share]:
    """Return the share of each mark over the videos that have it; a mark that chance knows may be on none."""
    marked = [name for result in results for name in result.marks]
    order = dict.fromkeys([*(name for name in marked if name in chance), *chance, *marked])
    return {name: share_of([result.marks[name] for result in results if name in result.marks]) for name in order}


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average each figure over the videos that have it."""
    values: dict[str, list[float]] = {}
    for trial in figures:
        for name, value in trial.items():
            values.setdefault(name, []).append(value)
    return {name: sum(numbers) / len(numbers) for name, numbers in values.items()}
