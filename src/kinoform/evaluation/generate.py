"""The video of a case: from a request, or an edit, and what was promised of it; and of a codec alone."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8

from kinoform.conditions.standard_inputs import MASK, REFERENCE_IMAGES, VIDEO
from kinoform.editing.boundary import boundary_differences
from kinoform.editing.edit import edit
from kinoform.editing.masks import composite
from kinoform.editing.report import mean_of
from kinoform.editing.settings import EditSettings
from kinoform.evaluation.case import Case
from kinoform.media.types import InputVideo
from kinoform.media.video import Video
from kinoform.models.codec import to_signed, to_uint8
from kinoform.pipelines.pipeline import Pipeline

GROW_DIVISOR = 32
"""Masks are what the object touches and this share of the shorter side more: 2 pixels of 64."""

EXACT = 100.0
"""The PSNR in dB that stands for frames without error, whose PSNR is infinite and not JSON."""

Frames: TypeAlias = UInt8[np.ndarray, "f h w 3"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generated:
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


def generated(pipeline: Pipeline, case: Case, changes: Mapping[str, Any]) -> Generated:
    """Make an edit where there is a video to change, else a video from the prompt and the inputs.

    `changes` of the recipe's defaults go into the request.
    """
    return _requested(pipeline, case, changes) if VIDEO not in case.inputs else _edited(pipeline, case, changes)


def in_place(case: Case, result: Generated, frames: Frames) -> tuple[Frames, dict[str, float]]:
    """Lay other frames over the source in place of `raw`, and return them with the figures of that edit."""
    source = case.inputs[VIDEO]
    if source is None or result.alpha is None:
        return frames, {}
    parts = zip(source.frames, frames.astype(np.float32), result.alpha, strict=True)
    laid = np.stack([composite(*part) for part in parts])
    _, feather = _settings(source).edge(source.size)
    return laid, _boundary(mean_of(boundary_differences(source.frames, laid, result.alpha, feather=feather)))


@torch.inference_mode()
def redrawn(pipeline: Pipeline, frames: Frames) -> Frames:
    """Encode and decode a rendered video: what the codec alone can show."""
    codec = pipeline.parts.codec(pipeline.machine.device)
    latents, _ = codec.encode(to_signed(frames[None]).to(pipeline.machine.device))
    return to_uint8(codec.decode(latents)[0][0])


def _requested(pipeline: Pipeline, case: Case, changes: Mapping[str, Any]) -> Generated:
    request = pipeline.request(case.prompt, seed=case.seed, inputs=case.inputs, **changes)
    latents = next(pipeline.latents([request], lambda progress: None))
    video = pipeline.video(request, latents, lambda progress: None)
    return Generated(video=video, raw=video.frames, kept=case.kept)


def _edited(pipeline: Pipeline, case: Case, changes: Mapping[str, Any]) -> Generated:
    source = case.inputs[VIDEO]
    assert source is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an edit that changes nothing is counted, and need not be told of
        result = edit(
            pipeline,
            source,
            case.prompt,
            mask=case.inputs[MASK],
            reference_images=case.inputs[REFERENCE_IMAGES],
            settings=_settings(source),
            seed=case.seed,
            **changes,
        )
    return Generated(
        video=result.video,
        raw=result.raw,
        kept=result.alpha == 0,
        alpha=result.alpha,
        marks={"outside_equal": result.report.outside_equal},
        figures=_boundary(result.report.boundary_delta_e),
    )


def _settings(source: InputVideo) -> EditSettings:
    """Return the settings of an edit: the defaults, but for the growth of the mask."""
    return EditSettings(grow=math.ceil(min(source.size) / GROW_DIVISOR))


def _boundary(value: float | None) -> dict[str, float]:
    return {} if value is None else {"boundary_delta_e": value}
