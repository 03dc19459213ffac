"""What many videos show: shares with intervals, for the videos of a model and for the ceiling of its codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from kinoform.evaluation.cost import VideoFlops
from kinoform.evaluation.verdict import Verdict
from kinoform.world.score import wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of `trials` videos were right, and the 95 % Wilson interval of the share."""

    right: int
    trials: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """NaN without trials."""
        return self.right / self.trials if self.trials else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One prompt: its video, and what the codec's reconstruction of the rendered scene shows; `seconds` to make.

    The PSNR of that reconstruction is in dB, over the whole frame and over what objects cover.
    """

    prompt: str
    seed: int
    video: Verdict
    ceiling: Verdict
    ceiling_psnr: float
    ceiling_foreground_psnr: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSkill:
    """One split's figures. What begins with `ceiling` reads the codec's own reconstructions of rendered videos.

    `skill` and `ceiling` have a share for each attribute. `background_drift`, 0 to 255, is the mean over videos
    whose prompt has a plain background; None without any. PSNR is in dB, the mean over videos.
    """

    split: str
    skill: dict[str, Share]
    ceiling: dict[str, Share]
    binding_error: Share
    count_constancy: Share
    ceiling_constancy: Share
    background_drift: float | None
    ceiling_drift: float | None
    ceiling_psnr: float
    ceiling_foreground_psnr: float
    seconds_per_video: float
    videos: tuple[Trial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One level: prompts of seen combinations, and prompts with a combination held out of training.

    `flops` are those of one video, None where the model does not tell them.
    """

    model: str
    fingerprint: str
    settings: dict[str, object]
    flops: VideoFlops | None
    level: str
    chance: dict[str, float]
    splits: tuple[SplitSkill, ...]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def split_skill(split: str, names: Sequence[str], trials: Sequence[Trial]) -> SplitSkill:
    """The figures of one split, from its videos; `names` are the attributes of the level."""
    videos, redrawn = [trial.video for trial in trials], [trial.ceiling for trial in trials]
    return SplitSkill(
        split=split,
        skill={name: share(videos, name) for name in names},
        ceiling={name: share(redrawn, name) for name in names},
        binding_error=share(videos, "binding_error"),
        count_constancy=share(videos, "count_constancy"),
        ceiling_constancy=share(redrawn, "count_constancy"),
        background_drift=mean_drift(videos),
        ceiling_drift=mean_drift(redrawn),
        ceiling_psnr=sum(trial.ceiling_psnr for trial in trials) / len(trials),
        ceiling_foreground_psnr=sum(trial.ceiling_foreground_psnr for trial in trials) / len(trials),
        seconds_per_video=sum(trial.seconds for trial in trials) / len(trials),
        videos=tuple(trials),
    )


def share(verdicts: Sequence[Verdict], name: str) -> Share:
    """The share of a mark, over the videos that have it."""
    return share_of([verdict.marks[name] for verdict in verdicts if name in verdict.marks])


def share_of(marks: Sequence[bool]) -> Share:
    low, high = wilson(sum(marks), len(marks))
    return Share(right=sum(marks), trials=len(marks), low=low, high=high)


def mean_drift(verdicts: Sequence[Verdict]) -> float | None:
    """Over the videos whose prompt has a plain background; None without any."""
    drifts = [verdict.background_drift for verdict in verdicts if verdict.background_drift is not None]
    return sum(drifts) / len(drifts) if drifts else None
