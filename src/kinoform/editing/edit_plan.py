"""Plan of an edit, made before any weight is read: the frames, the window and the size of each pass."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kinoform.conditions.clip_checks import free_cells
from kinoform.conditions.coerce import split, to_inputs
from kinoform.conditions.input_kinds import ReadOptions
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import EncoderSpecs, EstimatesCost, Units, VideoSize, readable
from kinoform.conditions.standard_inputs import MASK, SOURCE_PROMPT, STRENGTH, VIDEO
from kinoform.conditions.vace_inputs import GREY
from kinoform.editing.masks import Alpha, alpha_of
from kinoform.editing.passes import Frames, PassPlan, base_request, units_of, warn_unfamiliar
from kinoform.editing.segments import Span, spans
from kinoform.editing.settings import EditSettings
from kinoform.editing.window import Window, window_around
from kinoform.errors import UsageError
from kinoform.media.coerce import clip_of
from kinoform.media.types import InputVideo, Mask
from kinoform.models.codec import CodecSpec
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Frames of a video that are made in one pass, and the window that the model sees."""

    span: Span
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditPlan(PassPlan):
    """Plan of an edit within a mask.

    `alpha` says where the video changes (see `masks.alpha_of`); the settings hold the growth and the feather that it
    was made with. Frames in which nothing changes are in no pass. `warn_unchanged` asks for a warning of a result that
    hardly differs from the source.
    """

    settings: EditSettings
    passes: tuple[Segment, ...]
    alpha: Alpha
    warn_unchanged: bool

    def request(self, number: int, video: Frames) -> Request:
        """Return the request of a pass; see `PassPlan.request`.

        If the model takes a mask, frames shared with the pass before are given as it made them, to be kept.
        """
        segment = self.passes[number]
        return self._checked(number, (segment.span.length, *segment.window.made), self._inputs(segment, video))

    def _inputs(self, segment: Segment, result: Frames) -> Inputs:
        span, window, stride = segment.span, segment.window, self.pipeline.parts.codec_spec.stride
        kept = span.kept(stride[0]) if MASK in self.pipeline.inputs else 0
        frames, changes = [], []
        for index, source_index in enumerate(span.source_indices()):
            frames.append(window.seen((result if index < kept else self.source.frames)[source_index]))
            changes.append(window.touched(self.alpha[source_index] > 0) & (index >= kept))
        video, white = np.stack(frames), np.stack(changes)
        if not self.settings.show_source:
            video[white] = GREY
        inputs = self.base.inputs
        size = VideoSize(num_frames=len(video), height=video.shape[1], width=video.shape[2])
        # A mask under which no cell of any latent frame stays tells the model nothing.
        all_free = bool(free_cells(white, size, stride).all())
        mask = inputs[MASK]
        return inputs | {
            VIDEO: InputVideo(frames=video, fps=self.source.fps, origin=self.source.origin),
            MASK: None
            if all_free
            else Mask(values=white.astype(np.uint8) * 255, origin=None if mask is None else mask.origin),
        }


def plan_edit(
    pipeline: Pipeline,
    video: object,
    prompt: str,
    *,
    seed: int,
    settings: EditSettings | None = None,
    **changes: Any,
) -> EditPlan:
    """Plan the `edit` of the same arguments.

    Raises UsageError for a video that cannot be read or is shorter than a latent frame, for a mask without white or
    of another size or length, and for inputs that the model does not take, naming models that do; FitError for a
    video that cannot fit. Warns of a mask that is grey or leaves nothing, and of a prompt equal to the source prompt.
    """
    source = clip_of(video, sound=True)
    warn_unfamiliar(pipeline.recipe, source.name, source.size)
    return plan_source(pipeline, source, prompt, seed=seed, settings=settings or EditSettings(), **changes)


def plan_source(
    pipeline: Pipeline,
    source: InputVideo,
    prompt: str,
    *,
    seed: int,
    settings: EditSettings,
    warn_unchanged: bool = True,
    **changes: object,
) -> EditPlan:
    """Plan as `plan_edit` for a video in memory, without a warning of an unfamiliar one."""
    fields = readable(pipeline.recipe.conditioners)
    values, changes = split(fields, changes)
    inputs = to_inputs(fields, {**values, VIDEO.name: source}, ReadOptions(fit_mask=settings.fit_mask, end=True))
    pipeline, base = base_request(pipeline, prompt, seed, inputs, **changes)
    _check_inputs(base, settings)
    units, video = units_of(pipeline), base.video
    grow, feather = settings.edge(source.size)
    alpha = alpha_of(inputs[MASK], source, grow=grow, feather=feather)
    plan = EditPlan(
        pipeline=pipeline,
        base=_with_strength(base, units, pipeline.parts.codec_spec),
        source=source,
        settings=replace(settings, grow=grow, feather=feather),
        passes=tuple(_segments(source, alpha, video, settings, units)),
        alpha=alpha,
        warn_unchanged=warn_unchanged,
    )
    plan.check()
    return plan


def _check_inputs(base: Request, settings: EditSettings) -> None:
    inputs = base.inputs
    source_prompt = inputs[SOURCE_PROMPT]
    if source_prompt is not None and source_prompt.strip() == base.prompt.strip():
        warnings.warn("the prompt is the same as the source prompt, so it changes nothing", stacklevel=3)
    if settings.show_source:
        return
    if MASK not in inputs:
        raise UsageError(
            "without a mask show_source=False would hide the whole video; give a mask, or show the source",
            code="input_missing",
        )
    if inputs[STRENGTH] not in (None, 1) or source_prompt is not None:
        raise UsageError(
            "a strength and a source prompt change a video that the model sees; leave show_source=True for them",
            code="inputs_conflict",
        )


def _with_strength(base: Request, units: Units, codec: CodecSpec) -> Request:
    """Set the default strength explicitly: segments with kept frames, or without a mask, would have another."""
    costs = (
        conditioner.estimate(base.inputs, base.video, units, EncoderSpecs(codec=codec))
        for conditioner in base.conditioners
        if STRENGTH in conditioner.inputs and isinstance(conditioner, EstimatesCost)
    )
    strengths = [cost.strength for cost in costs if cost.strength is not None]
    return replace(base, inputs=base.inputs | {STRENGTH: min(strengths)}) if strengths else base


def _segments(
    source: InputVideo, alpha: Alpha, size: VideoSize, settings: EditSettings, units: Units
) -> Iterator[Segment]:
    stop = 0
    for span in spans(
        len(source.frames), length=size.num_frames, overlap=settings.overlap, units=units, name=source.name
    ):
        if not any(frame.any() for frame in alpha[max(span.start, stop) : span.stop]):
            continue
        changes = np.zeros(source.size, bool)
        for frame in alpha[span.start : span.stop]:
            changes |= frame > 0
        window = window_around(changes, margin=settings.margin, asked=(size.height, size.width), units=units)
        yield Segment(span=replace(span, shared=max(0, stop - span.start)), window=window)
        stop = span.stop
