"""A video to edit, an image to edit and references as segments of the sequence in which a video is denoised.

Source: Bernini-R (ByteDance 2026), its pipeline and the prompts of its tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from kinoform.conditions.clip_checks import (
    WHITE,
    by,
    check_same,
    check_video_given,
    check_white,
    known_latents,
    latent_spans,
    length_told,
)
from kinoform.conditions.in_context_sizes import UNIT, in_size, own_size, picked_frames
from kinoform.conditions.input_kinds import TextKind
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.known_frames import image_of_frame_0
from kinoform.conditions.protocols import (
    ConditionerOutput,
    EncodeCost,
    Encoders,
    EncoderSpecs,
    LatentConstraints,
    Units,
    VideoSize,
)
from kinoform.conditions.resize import FLOATS, Size, check_shows
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.errors import UsageError, nearest
from kinoform.media.types import InputImage, InputVideo
from kinoform.models.codec import Codec, encode_video, latent_size
from kinoform.numbers import Number, Whole
from kinoform.solvers.guidance.rule import Guidance
from kinoform.types import InContextSegment, Latents

TASK: InputField[str | None] = InputField(
    name="task",
    kind=TextKind(),
    help="The trained task, such as mv2v, in place of the one that the inputs tell.",
)

VIDEO_GROUP, IMAGES_GROUP = "video", "images"
"""Groups of segments, which guidance may leave out."""

SHOWN = (VIDEO, FRAMES, REFERENCE_IMAGES)
"""Inputs that become segments, in the order of their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditingTask:
    """Task that a model was trained on: its name, the words that stood before every prompt, and the guidance for it.

    It is that of a request whose `given` inputs, by name, are exactly these; with `still`, of one that asks for one
    frame, without, for several. A task without `given` is asked for by its name alone.
    """

    name: str
    prefix: str
    guidance_rule: Guidance | None = None
    given: frozenset[str] | None = None
    still: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InContext:
    """Segments: a video, an image to edit (frame 0) and up to `most` references, each in a size and at places of its
    own.

    The longest side of an image has `longest` pixels at most, or as many as that of the video to be made. This has the
    size of the video that is given, else that of the image, shrunk to the longest side that is asked for, unless
    `exact_size` keeps the size of the request. Black of a mask stays: its
    latents are re-imposed after each step, with the video's noise at that level, as by `StartVideo`; the model itself
    knows no mask. The prompt stands behind the words of its task, of `tasks`, the one that is named or the first that
    fits; a `fallback` is that of all others.
    """

    tasks: tuple[EditingTask, ...]
    fallback: EditingTask
    most: int = 8
    longest: int = 848

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        return (VIDEO, MASK, FRAMES, REFERENCE_IMAGES, EXACT_SIZE, TASK)

    def picked(self, there: int, fps: float | None, *, wanted: Number, most: Whole) -> Sequence[int]:
        return picked_frames(there, fps, wanted=float(wanted), most=int(most))

    def task(self, inputs: Inputs, video: VideoSize) -> str | None:
        return self.task_of(inputs, video).name

    def prefix(self, inputs: Inputs, video: VideoSize) -> str:
        return self.task_of(inputs, video).prefix

    def guidance_rule(self, inputs: Inputs, video: VideoSize) -> Guidance | None:
        return self.task_of(inputs, video).guidance_rule

    def task_of(self, inputs: Inputs, video: VideoSize) -> EditingTask:
        """Return the task that is named, or the first that fits what is given. Raises UsageError for an unknown one."""
        named, given = inputs[TASK], frozenset(item.name for item in SHOWN if item in inputs)
        tasks = (*self.tasks, self.fallback)
        if named is None:
            still = video.num_frames == 1
            fitting = (task for task in tasks if task.given == given and task.still in (None, still))
            return next(fitting, self.fallback)
        known = {task.name: task for task in tasks}
        if named not in known:
            raise UsageError(
                f"the model was trained on no task {named[:40]!r}; {nearest(named, known)}", code="unknown_name"
            )
        return known[named]

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        """Raises UsageError for a video that is too short, and as `check` for what is too small or too narrow; warns
        when frames are lost or missing."""
        clip, image = inputs[VIDEO], self._image(inputs, asked)
        video = asked if clip is None else replace(asked, num_frames=length_told(clip, asked, units))
        shown = clip or image
        if shown is None or inputs[EXACT_SIZE]:
            return video
        height, width = _own_size(shown, max(asked.height, asked.width))
        return replace(video, height=height, width=width)

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        """Raises UsageError for more references than the model takes, one of one colour, an image of another frame than
        the first, what is too small or too narrow for a size in context, a mask that does not fit its video or is of
        one colour, and an unknown task."""
        references, clip = inputs[REFERENCE_IMAGES], inputs[VIDEO]
        if len(references) > self.most:
            raise UsageError(
                f"{len(references)} references are given; this model reads at most {self.most}", code="too_many"
            )
        check_shows(references)
        for image in self._images(inputs, video):
            self._image_size(image, video)
        self.task_of(inputs, video)
        check_video_given(inputs, MASK)
        mask = inputs[MASK]
        if mask is None or clip is None:
            return
        check_same(mask, clip)
        check_white(mask, mask.values[: video.num_frames] >= WHITE)

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        codec, clip = encoders.codec, inputs[VIDEO]
        shapes = [(VIDEO_GROUP, video)] if clip is not None else []
        images = self._images(inputs, video)
        for image in images:
            height, width = self._image_size(image, video)
            shapes.append((IMAGES_GROUP, VideoSize(num_frames=1, height=height, width=width)))
        segments = (
            InContextSegment(
                group=group,
                latents=torch.empty(
                    1, codec.channels, *latent_size(codec, size.num_frames, size.height, size.width), device="meta"
                ),
            )
            for group, size in shapes
        )
        chunk = 0 if clip is None else FLOATS * units.stride[0] * clip.frames[0].nbytes
        return EncodeCost(
            videos=int(clip is not None),
            stills=len(images),
            held=max((chunk, *(FLOATS * image.pixels.nbytes for image in images))),
            segments=tuple(segments),
        )

    @torch.no_grad()
    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        """Raises UsageError when the mask leaves no latent cell black, which only the codec knows."""
        clip, images = inputs[VIDEO], self._images(inputs, video)
        if clip is None and not images:
            return ConditionerOutput()
        codec, device = encoders.codec(), encoders.device
        segments, known = list[InContextSegment](), None
        if clip is not None:
            source = _video_latents(clip, video, codec, device)
            if (mask := inputs[MASK]) is not None:
                known = known_latents(mask, mask.values[: video.num_frames] >= WHITE, video, source, codec.stride)
            segments.append(InContextSegment(latents=source, group=VIDEO_GROUP))
        for image in images:
            pixels = in_size([image.pixels], self._image_size(image, video))
            latents, _ = codec.encode(pixels[:, :, None].to(device))
            segments.append(InContextSegment(latents=latents, group=IMAGES_GROUP))
        return ConditionerOutput(segments=tuple(segments), constraints=LatentConstraints(inpainting=known))

    def _images(self, inputs: Inputs, video: VideoSize) -> tuple[InputImage, ...]:
        """Return the image to edit, if there is one, and the references."""
        image = self._image(inputs, video)
        return (*(() if image is None else (image,)), *inputs[REFERENCE_IMAGES])

    def _image_size(self, image: InputImage, video: VideoSize) -> Size:
        return _own_size(image, max(self.longest, video.height, video.width))

    def _image(self, inputs: Inputs, video: VideoSize) -> InputImage | None:
        return image_of_frame_0(inputs[FRAMES], video.num_frames, "an image to edit, as frame 0, alone")


def _own_size(item: InputImage | InputVideo, longest: int) -> Size:
    """Return the size of an image or video in context. Raises UsageError for one that tokens could only stretch."""
    scale = min(longest / max(item.size), 1.0)
    if min(item.size) * scale < UNIT / 2:
        small = "too small" if max(item.size) <= longest else "too narrow"
        raise UsageError(
            f"{item.name} of {by(item.size)} is {small}: in context its shorter side would be "
            f"{min(item.size) * scale:.0f} pixels, and a token has {UNIT}; give a larger part of it",
            code="image_too_narrow",
        )
    return own_size(item.size, longest)


def _video_latents(clip: InputVideo, video: VideoSize, codec: Codec, device: torch.device) -> Latents:
    size = video.height, video.width

    def chunks() -> Iterator[torch.Tensor]:
        for places in latent_spans(video.num_frames, codec.stride[0]):
            yield in_size(list(clip.frames[places]), size).transpose(0, 1)[None].to(device)

    return encode_video(codec, chunks())
