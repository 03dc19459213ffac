"""The video of a case: from a request with inputs, or an edit; and what was promised of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from kinoform.conditions.standard_inputs import MASK, REFERENCE_IMAGES, VIDEO
from kinoform.editing.composite import composite
from kinoform.editing.edit import edit
from kinoform.editing.report import mean_of, seams
from kinoform.editing.settings import EditSettings
from kinoform.evaluation.inputs.case import Case
from kinoform.evaluation.making import video_of
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline

EDIT = EditSettings(grow=2)
"""Masks are what the object touches and 2 pixels more; all else is as where nobody says."""

Frames: TypeAlias = UInt8[np.ndarray, "f h w 3"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """A video, and what was promised of it.

    `raw` are the frames as the model made them, before any of the source was put back; `kept` are the pixels that
    shall be as they were given, None where nothing was; `alpha` is how much of `raw` counted, None for all of it.
    """

    video: Video
    raw: Frames
    kept: Bool[np.ndarray, "f h w"] | None
    alpha: Float32[np.ndarray, "f h w"] | None = None
    marks: Mapping[str, bool] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


def made(pipeline: Pipeline, case: Case, changes: Mapping[str, Any]) -> Made:
    """An edit where there is a video to change, else a video from the inputs."""
    return _generated(pipeline, case, changes) if VIDEO not in case.inputs else _edited(pipeline, case, changes)


def in_place(case: Case, found: Made, frames: Frames) -> tuple[Frames, dict[str, float]]:
    """Other frames in place of `raw`, laid over the source as those were, and the figures of that edit."""
    given = case.inputs[VIDEO]
    if given is None or found.alpha is None:
        return frames, {}
    source = given.frames
    parts = zip(source, frames.astype(np.float32), found.alpha, strict=True)
    laid = np.stack([composite(*each) for each in parts])
    _, feather = EDIT.rim(given.size)
    return laid, _seam(mean_of(seams(source, laid, found.alpha, feather=feather)))


def _generated(pipeline: Pipeline, case: Case, changes: Mapping[str, Any]) -> Made:
    video = video_of(pipeline, case.prompt, case.seed, inputs=case.inputs, **changes)
    return Made(video=video, raw=video.frames, kept=case.kept)


def _edited(pipeline: Pipeline, case: Case, changes: Mapping[str, Any]) -> Made:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an edit that changes nothing is counted, and need not be told of
        found = edit(
            pipeline,
            case.inputs[VIDEO],
            case.prompt,
            mask=case.inputs[MASK],
            reference_images=case.inputs[REFERENCE_IMAGES],
            settings=EDIT,
            seed=case.seed,
            **changes,
        )
    return Made(
        video=found.video,
        raw=found.raw,
        kept=found.alpha == 0,
        alpha=found.alpha,
        marks={"outside_equal": found.report.outside_equal},
        figures=_seam(found.report.seam_delta_e),
    )


def _seam(value: float | None) -> dict[str, float]:
    return {} if value is None else {"seam_delta_e": value}
