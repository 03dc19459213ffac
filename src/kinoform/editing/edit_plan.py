"""An edit, checked and decided before any weight is read: which frames, which part of them, in which size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import UInt8

from kinoform.conditions.clip_checks import free_cells
from kinoform.conditions.coerce import split, to_inputs
from kinoform.conditions.input_kinds import ReadOptions
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import EncoderSpecs, EstimatesCost, Units, VideoSize, readable
from kinoform.conditions.resize import Size
from kinoform.conditions.standard_inputs import MASK, SOURCE_PROMPT, STRENGTH, VIDEO
from kinoform.conditions.vace_inputs import GREY
from kinoform.editing.masks import Alpha, alpha_of
from kinoform.editing.passes import identity
from kinoform.editing.segments import Span, spans
from kinoform.editing.settings import EditSettings
from kinoform.editing.window import Window, window_around
from kinoform.editing.worlds import tell_world
from kinoform.errors import UsageError
from kinoform.media.coerce import clip_of
from kinoform.media.types import InputVideo, Mask
from kinoform.models.codec import CodecSpec, check_size
from kinoform.pipelines.fit import check_fit
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request, request


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Frames of a video that are made at once, and the part of them that the model sees. `number` counts from 0."""

    number: int
    span: Span
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditPlan:
    """Plan of an edit: everything but its frames.

    `asked` is the request as it was handed over, with the whole `source` and the largest size that is made at once;
    `alpha` says where the video changes (see `masks.alpha_of`), `rim` by how many pixels the mask was grown and
    feathered. There is a segment for frames in which something changes, and for no others.
    """

    pipeline: Pipeline
    asked: Request
    source: InputVideo
    alpha: Alpha
    rim: tuple[int, float]
    settings: EditSettings
    segments: tuple[Segment, ...]

    @property
    def fps(self) -> float:
        """Frames per second of the source, or of the recipe where the source does not say."""
        return self.pipeline.recipe.fps if self.source.fps is None else self.source.fps

    @property
    def passes(self) -> int:
        """The number of passes: of videos that the model makes."""
        return len(self.segments)

    @property
    def beside(self) -> int:
        """Bytes that the video takes beside the model: as it was, as it becomes, and what the model made."""
        return held(len(self.source.frames), self.source.size, per_pixel=13)

    def identity(self) -> str:
        """A hash of all that decides what the model makes."""
        return identity(
            self.pipeline.params(self.asked),
            settings=asdict(self.settings),
            segments=[asdict(s) for s in self.segments],
        )

    def seed(self, segment: Segment) -> int:
        return self.asked.seed + segment.number

    def request(self, segment: Segment, result: UInt8[np.ndarray, "f height width 3"]) -> Request:
        """Return the request of a segment, where `result` is the video as far as it is edited.

        Frames that the segment shares with the one before are known, if the model takes a mask, so that what was
        made there goes on. Raises UsageError for what the model does not take, and FitError for what cannot fit.
        """
        (height, width), parts, machine = segment.window.made, self.pipeline.parts, self.pipeline.machine
        asked = replace(
            self.asked, seed=self.seed(segment), inputs=self._inputs(segment, result),
            num_frames=segment.span.length, height=height, width=width,
        )  # fmt: skip
        asked = self.pipeline.sized(asked)
        check_fit(asked, parts, machine.dtype, machine.device, beside=self.beside)
        return asked

    def _inputs(self, segment: Segment, result: UInt8[np.ndarray, "f height width 3"]) -> Inputs:
        span, window, stride = segment.span, segment.window, self.pipeline.parts.codec_spec.stride
        held = span.held(stride[0]) if MASK in self.pipeline.inputs else 0
        frames, changes = [], []
        for place, of_video in enumerate(span.places()):
            frames.append(window.seen((result if place < held else self.source.frames)[of_video]))
            changes.append(window.touched(self.alpha[of_video] > 0) & (place >= held))
        video, white = np.stack(frames), np.stack(changes)
        if not self.settings.show_source:
            video[white] = GREY
        given = self.asked.inputs
        size = VideoSize(num_frames=len(video), height=video.shape[1], width=video.shape[2])
        # Where no latent frame has a cell that stays, a mask has nothing to say to the model.
        everywhere = bool(free_cells(white, size, stride).all())
        mask = given[MASK]
        return given | {
            VIDEO: InputVideo(frames=video, fps=self.source.fps, origin=self.source.origin),
            MASK: None
            if everywhere
            else Mask(values=white.astype(np.uint8) * 255, origin=None if mask is None else mask.origin),
        }


def plan_edit(
    pipeline: Pipeline,
    video: object,
    prompt: str,
    *,
    seed: int,
    settings: EditSettings | None = None,
    **changes: object,
) -> EditPlan:
    """Plan what `edit` of the same arguments will do.

    Raises UsageError for a video that cannot be read or is shorter than a latent frame, for a mask without white or
    of another size or length, and for what the model does not take, naming those that do; FitError for what cannot
    fit. Warns of a mask that is grey or leaves nothing, and of a prompt that says what the source prompt says.
    """
    source = clip_of(video, sound=True)
    tell_world(pipeline.recipe, source.name, source.size)
    return plan_source(pipeline, source, prompt, seed=seed, settings=settings or EditSettings(), **changes)


def plan_source(
    pipeline: Pipeline,
    source: InputVideo,
    prompt: str,
    *,
    seed: int,
    settings: EditSettings,
    **changes: object,
) -> EditPlan:
    """Plan as `plan_edit` does, for a video in memory, whatever world it shows. Raises and warns as that."""
    fields = readable(pipeline.recipe.conditioners)
    values, changes = split(fields, changes)
    given = to_inputs(fields, {**values, VIDEO.name: source}, ReadOptions(fit_mask=settings.fit_mask, end=True))
    # A rewritten prompt is the same for all segments.
    prompt, pipeline = pipeline.extend(prompt) if pipeline.extend else prompt, replace(pipeline, extend=None)
    asked = request(pipeline.recipe, prompt, seed, inputs=given, **changes)
    _check_wishes(asked, settings)
    codec, patch = pipeline.parts.codec_spec, pipeline.parts.patch
    check_size(codec, patch, asked.num_frames, asked.height, asked.width)
    units = Units(stride=codec.stride, patch=patch)
    grow, feather = settings.rim(source.size)
    alpha = alpha_of(given[MASK], source, grow=grow, feather=feather)
    plan = EditPlan(
        pipeline=pipeline, asked=_with_strength(asked, units, codec), source=source, alpha=alpha, rim=(grow, feather),
        settings=settings, segments=tuple(_segments(source, alpha, asked.video, settings, units)),
    )  # fmt: skip
    plan.request(plan.segments[0], source.frames)  # the others differ from it in pixels and in their seeds
    replace(asked, seed=plan.seed(plan.segments[-1]))
    return plan


def _check_wishes(asked: Request, settings: EditSettings) -> None:
    given = asked.inputs
    source = given[SOURCE_PROMPT]
    if source is not None and source.strip() == asked.prompt.strip():
        warnings.warn("the prompt says what the source prompt says, so it changes nothing", stacklevel=3)
    if settings.show_source:
        return
    if MASK not in given:
        raise UsageError(
            "without a mask show_source=False would hide the whole video; give a mask, or show the source",
            code="input_missing",
        )
    if given[STRENGTH] not in (None, 1) or source is not None:
        raise UsageError(
            "a strength and a source prompt change what is shown; leave show_source as it is for them",
            code="inputs_conflict",
        )


def _with_strength(asked: Request, units: Units, codec: CodecSpec) -> Request:
    """Say the default strength aloud: segments with known frames, or without a mask, would have another."""
    given, video = asked.inputs, asked.video
    demands = (
        each.estimate(given, video, units, EncoderSpecs(codec=codec))
        for each in asked.conditioners
        if STRENGTH in each.inputs and isinstance(each, EstimatesCost)
    )
    strengths = [demand.strength for demand in demands if demand.strength is not None]
    return replace(asked, inputs=given | {STRENGTH: min(strengths)}) if strengths else asked


def _segments(
    source: InputVideo, alpha: Alpha, size: VideoSize, settings: EditSettings, units: Units
) -> Iterator[Segment]:
    number, stop = 0, 0
    for span in spans(
        len(source.frames), most=size.num_frames, overlap=settings.overlap, units=units, name=source.name
    ):
        if not any(frame.any() for frame in alpha[max(span.start, stop) : span.stop]):
            continue
        changes = np.zeros(source.size, bool)
        for frame in alpha[span.start : span.stop]:
            changes |= frame > 0
        window = window_around(changes, margin=settings.margin, asked=(size.height, size.width), units=units)
        yield Segment(number=number, span=replace(span, shared=max(0, stop - span.start)), window=window)
        number, stop = number + 1, span.stop


def held(frames: int, size: Size, *, per_pixel: int) -> int:
    """Bytes of so many frames of a size (height, width)."""
    return frames * size[0] * size[1] * per_pixel
