"""What many videos made from inputs show: shares with intervals and mean figures, for videos and for the codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from kinoform.evaluation.cost import VideoFlops
from kinoform.evaluation.skill import Share, share
from kinoform.evaluation.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class InputsTrial:
    """One video, and what the codec's reconstruction of the rendered scene shows; `seconds` to make.

    That of an edit is laid over the source as the edit was. `figures`: `kept_psnr`, in dB over the pixels that were
    given and shall stay, before the source is put back, at most 100; `seam_delta_e` of an edit.
    """

    prompt: str
    seed: int
    video: Verdict
    ceiling: Verdict
    figures: dict[str, float]
    ceiling_figures: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSkill:
    """The figures of one case, over its videos. What begins with `ceiling` is the codec's own.

    `skill`, `ceiling` and `chance` go by mark; a mark that only some videos have is counted over those. Figures are
    means. `flops` are those of one video, None for an edit and where the model does not tell them. `left_out` are
    inputs that the model does not take and did not get. `joins` are the names of the cases whose videos these are,
    empty for a case of its own.
    """

    name: str
    joins: tuple[str, ...]
    left_out: tuple[str, ...]
    skill: dict[str, Share]
    ceiling: dict[str, Share]
    chance: dict[str, float]
    figures: dict[str, float]
    ceiling_figures: dict[str, float]
    seconds_per_video: float
    flops: VideoFlops | None
    videos: tuple[InputsTrial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputsEvaluation:
    """All cases of one model, pooled ones last."""

    model: str
    fingerprint: str
    settings: dict[str, object]
    cases: tuple[CaseSkill, ...]

    def as_json(self) -> dict[str, object]:
        """The videos of cases that join others stand in those alone."""
        told: dict[str, object] = asdict(replace(self, cases=()))
        return told | {"cases": [asdict(replace(case, videos=()) if case.joins else case) for case in self.cases]}


def case_skill(
    name: str,
    trials: Sequence[InputsTrial],
    *,
    chance: Mapping[str, float],
    joins: tuple[str, ...] = (),
    left_out: tuple[str, ...] = (),
    flops: VideoFlops | None = None,
) -> CaseSkill:
    """The figures of one case, from its videos, of which there is at least one."""
    videos, redrawn = [trial.video for trial in trials], [trial.ceiling for trial in trials]
    return CaseSkill(
        name=name,
        joins=joins,
        left_out=left_out,
        skill={mark: share(videos, mark) for mark in _names([each.marks for each in videos])},
        ceiling={mark: share(redrawn, mark) for mark in _names([each.marks for each in redrawn])},
        chance=dict(chance),
        figures=_means([trial.figures for trial in trials]),
        ceiling_figures=_means([trial.ceiling_figures for trial in trials]),
        seconds_per_video=sum(trial.seconds for trial in trials) / len(trials),
        flops=flops,
        videos=tuple(trials),
    )


def pooled(name: str, cases: Sequence[CaseSkill]) -> CaseSkill:
    """Several cases with equally many videos as one; its chance is the mean of theirs."""
    chance = {mark: sum(case.chance[mark] for case in cases) / len(cases) for mark in cases[0].chance}
    left_out = tuple(dict.fromkeys(each for case in cases for each in case.left_out))
    trials = [video for case in cases for video in case.videos]
    return case_skill(name, trials, chance=chance, joins=tuple(case.name for case in cases), left_out=left_out)


def _names(marks: Sequence[Mapping[str, bool]]) -> list[str]:
    return list(dict.fromkeys(name for each in marks for name in each))


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure over the videos that have it."""
    found: dict[str, list[float]] = {}
    for each in figures:
        for name, value in each.items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}
