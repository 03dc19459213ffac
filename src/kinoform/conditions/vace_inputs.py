"""Tasks of VACE as inputs: each is a video with grey where something is to be made, and a mask that says where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kinoform.conditions.clip_checks import WHITE, by
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import MASK, REFERENCE_IMAGES, VIDEO
from kinoform.conditions.vace import check_mask
from kinoform.errors import UsageError
from kinoform.media.types import InputImage, InputVideo, Mask
from kinoform.numbers import whole_of

GREY = 127
"""Grey of unknown pixels: 127.5, the middle, cut to a byte as the official preprocessor does."""

References = tuple[InputImage, ...]


def reference_to_video(*reference_images: InputImage) -> Inputs:
    """A video of what the images show. Raises UsageError without any."""
    if not reference_images:
        raise UsageError("no reference is given; give one image at least", code="input_missing")
    return Inputs({REFERENCE_IMAGES: reference_images})


def video_to_video(control: InputVideo, reference_images: References = ()) -> Inputs:
    """A video that moves as a control video does: depth, pose, lines, flow or grey, as VACE was trained with."""
    return Inputs({VIDEO: control, REFERENCE_IMAGES: reference_images})


def inpaint(video: InputVideo, mask: Mask, reference_images: References = ()) -> Inputs:
    """Make anew what is white in the mask. Raises UsageError for a mask that does not fit the video."""
    check_mask(mask, video)
    shown = np.where(mask.values[..., None] >= WHITE, GREY, video.frames)
    return Inputs({VIDEO: _video(video, shown), MASK: mask, REFERENCE_IMAGES: reference_images})


def outpaint(
    video: InputVideo,
    *,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    reference_images: References = (),
) -> Inputs:
    """Make the surroundings: so many pixels on each side. Raises UsageError unless there are any, and none negative."""
    sides = (top, bottom), (left, right)
    _check_counts("pixels", (*sides[0], *sides[1]))
    frames = np.pad(video.frames, ((0, 0), *sides, (0, 0)), constant_values=GREY)
    inside = np.zeros((1, *video.size), np.uint8)
    mask = np.pad(inside, ((0, 0), *sides), constant_values=255)
    return Inputs({VIDEO: _video(video, frames), MASK: Mask(values=mask), REFERENCE_IMAGES: reference_images})


def extend(video: InputVideo, *, before: int = 0, after: int = 0, reference_images: References = ()) -> Inputs:
    """Make frames before or after a video, or both: 1 + 4n with it, or the whole is sampled. Raises as `outpaint`."""
    _check_counts("frames", (before, after))
    return _joined(video, [before, video, after], reference_images)


def between(first: InputVideo, second: InputVideo, *, frames: int, reference_images: References = ()) -> Inputs:
    """Make what happens between two videos. Raises UsageError unless both have one size and `frames` is above 0."""
    _check_counts("frames", (frames,))
    if first.size != second.size:
        sizes = f"{first.name} is {by(first.size)} and {second.name} {by(second.size)}"
        raise UsageError(f"{sizes}; what joins two videos needs both in one size", code="sizes_differ")
    return _joined(first, [first, frames, second], reference_images)


def _joined(like: InputVideo, parts: list[InputVideo | int], reference_images: References) -> Inputs:
    """Join videos, which stay, and numbers of frames that are to be made."""
    frames: list[NDArray[np.uint8]] = []
    mask: list[NDArray[np.uint8]] = []
    for part in parts:
        made = not isinstance(part, InputVideo)
        shown = np.full((int(part), *like.size, 3), GREY, np.uint8) if made else part.frames
        frames.append(shown)
        mask.append(np.full(shown.shape[:3], 255 if made else 0, np.uint8))
    video = _video(like, np.concatenate(frames))
    return Inputs({VIDEO: video, MASK: Mask(values=np.concatenate(mask)), REFERENCE_IMAGES: reference_images})


def _video(like: InputVideo, frames: np.ndarray) -> InputVideo:
    return replace(like, frames=frames.astype(np.uint8))


def _check_counts(what: str, counts: tuple[int, ...]) -> None:
    numbers = [whole_of(count) for count in counts]
    if any(number is None or number < 0 for number in numbers) or not any(numbers):
        given = ", ".join(str(count) for count in counts)
        raise UsageError(
            f"{given} {what} are to be made; give whole numbers, none below 0 and one above", code="bad_value"
        )
