"""A video from outside in the size and length of the video to be made, and a mask of it on the latent grid."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import InpaintingConstraint, Units, VideoSize
from kinoform.conditions.resize import kept_part, signal
from kinoform.conditions.standard_inputs import VIDEO
from kinoform.errors import UsageError
from kinoform.media.types import InputVideo, Mask
from kinoform.models.codec import Pixels
from kinoform.ops.patch import Patch
from kinoform.types import Latents

WHITE = 128
"""Value from which on a mask is white."""


def legal_length(clip: InputVideo, asked: VideoSize, units: Units) -> int:
    """Frames of a video made from `clip`: those that are asked for, or as many as the clip has and a video may have.

    Raises UsageError for a clip too short for more than one latent frame, unless a video of 1 frame is asked for.
    """
    there = len(clip.frames)
    if there >= asked.num_frames:
        return asked.num_frames
    time, part = units.stride[0], units.patch[0]
    latent_frames = (1 + (there - 1) // time) // part * part
    if latent_frames <= 1:
        least = 1 + time * (max(part, 2) - 1)
        raise UsageError(
            f"{clip.name} is too short for a video: it has {there} frames; give {least} or more", code="video_too_short"
        )
    return 1 + time * (latent_frames - 1)


def length_told(clip: InputVideo, asked: VideoSize, units: Units) -> int:
    """Return the `legal_length`; warn when frames of the clip are lost, or fewer are made than are asked for."""
    there, length = len(clip.frames), legal_length(clip, asked, units)
    if length < there:
        warnings.warn(f"{clip.name} has {there} frames; the first {length} are taken", stacklevel=3)
    if length < asked.num_frames:
        warnings.warn(
            f"{length} frames are made instead of {asked.num_frames}, the length of {clip.name}", stacklevel=3
        )
    return length


def clip_chunks(clip: InputVideo, video: VideoSize, time: int) -> Iterator[Pixels]:
    """Yield the first frames of `clip` in the size of `video`, as codecs of this time stride take them: 1, then `time`.

    The middle of a clip of other proportions is kept; then bicubic, antialiased, since clips are often larger
    than videos.
    """
    size = video.height, video.width
    rows, columns = kept_part(clip.size, size)
    for places in latent_spans(video.num_frames, time):
        pixels = signal(clip.frames[places, rows, columns])
        if pixels.shape[2:] != size:
            pixels = F.interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp(-1, 1)
        yield pixels.transpose(0, 1)[None]


def kept_mask(mask: Mask, clip: InputVideo, video: VideoSize) -> Bool[np.ndarray, "t height width"]:
    """True where `mask` is white, on the part of the clip that a video shows; in the pixels of the clip.

    Raises UsageError as `check_same`.
    """
    check_same(mask, clip)
    rows, columns = kept_part(clip.size, (video.height, video.width))
    return mask.values[: video.num_frames, rows, columns] >= WHITE


def check_white(mask: Mask, white: Bool[np.ndarray, "t height width"]) -> None:
    """Raise UsageError for a mask of which nothing, or everything, is white."""
    if not white.any():
        raise UsageError(f"{mask.name} shows no white; white is what changes, so nothing would", code="mask_empty")
    if white.all():
        raise UsageError(f"{mask.name} is white everywhere; leave it out to change the whole video", code="mask_full")


def known_latents(
    mask: Mask, white: Bool[np.ndarray, "t height width"], video: VideoSize, latents: Latents, stride: Patch
) -> InpaintingConstraint:
    """Return the latents of a video that stay where the mask is not `white`.

    Raises UsageError when it leaves no latent cell black.
    """
    free = free_cells(white, video, stride)
    if free.all():
        time, height, width = stride
        raise UsageError(
            f"no part of {mask.name} is black over {width}x{height} pixels and {time} frames of the video, "
            "so nothing would stay; give it larger black parts",
            code="mask_full",
        )
    return InpaintingConstraint(latents=latents, mask=~free[None, None].to(latents.device))


def check_video_given(inputs: Inputs, *fields: InputField[Any]) -> None:
    """Raise UsageError where one of these inputs is given without the video that it counts for."""
    for item in fields if VIDEO not in inputs else ():
        if item in inputs:
            raise UsageError(f"a {item.said} without a video changes nothing; give the video too", code="input_missing")


def check_same(mask: Mask, clip: InputVideo) -> None:
    """Raise UsageError unless the mask has the size of the clip, and its length or one frame."""
    if mask.size != clip.size:
        raise UsageError(
            f"{mask.name} is {by(mask.size)} and {clip.name} {by(clip.size)}; give a mask of that size",
            code="mask_size_differs",
        )
    there, wanted = len(mask.values), len(clip.frames)
    if there not in (1, wanted):
        raise UsageError(
            f"{mask.name} has {there} frames and {clip.name} {wanted}; give a mask of one frame, which stands for all, "
            f"or of {wanted}",
            code="mask_length_differs",
        )


def free_cells(white: Bool[np.ndarray, "t height width"], video: VideoSize, stride: Patch) -> Bool[Tensor, "f h w"]:
    """Latent cells of which any pixel, in any of their frames, is white.

    A pixel of the video is white where white of a mask of another size has any part in it.
    """
    time, *sides = stride
    touched = torch.stack([_pooled(frame, video, (sides[0], sides[1])) for frame in white])
    spans = list(latent_spans(video.num_frames, time))
    if len(touched) == 1:
        return touched.expand(len(spans), -1, -1)
    return torch.stack([touched[places].any(dim=0) for places in spans])


def latent_spans(frames: int, time: int) -> Iterator[slice]:
    """The frames of each latent frame: the first alone, then `time` frames at once, as the codec goes."""
    yield slice(0, 1)
    for first in range(1, frames, time):
        yield slice(first, first + time)


def _pooled(white: Bool[np.ndarray, "height width"], video: VideoSize, sides: tuple[int, int]) -> Bool[Tensor, "h w"]:
    values = torch.as_tensor(white.astype(np.float32))[None, None]
    if white.shape != (video.height, video.width):
        values = F.interpolate(values, size=(video.height, video.width), mode="bilinear", antialias=True)
    return F.max_pool2d(values, sides)[0, 0] > 0


def by(size: tuple[int, int]) -> str:
    """Width x height, as people write a size."""
    height, width = size
    return f"{width}x{height}"
