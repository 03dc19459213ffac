"""Pixels of a clip, and the inputs that ask for it, as a request would read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import UInt8

from kinoform.conditions.input_kinds import ReadOptions
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import Conditioner, VideoSize, declared, prefixed
from kinoform.conditions.resize import kept_part
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.datasets.clips import Clip
from kinoform.datasets.item import FIRST, FRAME_ROLES, LAST
from kinoform.datasets.own_inputs import own_inputs, read_own
from kinoform.datasets.sample import Sample
from kinoform.errors import UsageError
from kinoform.media.decoder_client import MediaDecoder
from kinoform.media.read import decode_options, painted, read_clip, read_image
from kinoform.media.types import InputImage, InputVideo, Mask

Frames = UInt8[np.ndarray, "f h w 3"]


def read_sample(
    clip: Clip, conditioners: Iterable[Conditioner], known: tuple[int, ...] = (), decoder: MediaDecoder | None = None
) -> Sample:
    """Read a clip: its target, source and mask cropped in the middle and resized alike, its images as they are.

    `known` are frames of the target that the model is given as images where the item has none of its own. Raises
    UsageError for files that cannot be read, and for a source or a mask with too few frames.
    """
    conditioners, item = tuple(conditioners), clip.item.without(clip.lost)
    video = _frames(item.target, clip, decoder)
    values: dict[InputField[Any], Any] = {}
    if item.source is not None:
        values[VIDEO] = InputVideo(frames=_frames(item.source, clip, decoder), fps=clip.fps)
    if item.mask is not None:
        values[MASK] = Mask(values=_mask(item.mask, clip, decoder))
    if item.references:
        values[REFERENCE_IMAGES] = tuple(read_image(path, decoder=decoder) for path in item.references)
    images = {FIRST: item.first, LAST: item.last}
    shown = {
        number: InputImage(pixels=video[number]) if number in clip.own else read_image(path, decoder=decoder)
        for number, path in images.items()
        if path is not None
    }
    shown |= {
        number: InputImage(pixels=video[number])
        for number in known
        if number not in shown and FRAME_ROLES.get(number) not in clip.lost
    }
    fields = declared(conditioners)
    if shown and FRAMES in fields:
        values[FRAMES] = shown
        if EXACT_SIZE in fields:
            values[EXACT_SIZE] = True
    options = ReadOptions(
        fps=clip.fps, num_frames=clip.size.num_frames, start=clip.start, others={"video": values.get(VIDEO)},
        decoder=decoder,
    )  # fmt: skip
    taken = own_inputs(fields)
    values |= {taken[name]: _fitted(read_own(taken[name], value, options), clip) for name, value in item.own}
    inputs = Inputs(values)
    return Sample(inputs=inputs, prompt=prefixed(conditioners, item.caption, inputs, clip.size), video=video)


def _fitted(value: Any, clip: Clip) -> Any:
    """Return a video or a mask in the size of the clip, other values as they are. Raises UsageError for few frames."""
    size = clip.size
    if isinstance(value, InputVideo):
        if len(value.frames) < size.num_frames:
            raise UsageError(
                f"{value.name} has {len(value.frames)} frames from frame {clip.start} on, and the clip has "
                f"{size.num_frames}; give files of one length",
                code="clips_too_short",
            )
        return InputVideo(frames=resized(value.frames, size.height, size.width), fps=clip.fps)
    if isinstance(value, Mask):
        grey = np.repeat(value.values[..., None], 3, axis=-1)
        return Mask(values=resized(grey, size.height, size.width)[..., 0])
    return value


def needed_frames(conditioners: Iterable[Conditioner], video: VideoSize) -> tuple[int, ...]:
    """Return the frames that a model must be given of every video: none, the first, or the first and the last."""
    conditioners, blank = tuple(conditioners), InputImage(pixels=np.zeros((video.height, video.width, 3), np.uint8))
    for known in ((), (FIRST,), (FIRST, LAST)):
        inputs = Inputs({FRAMES: dict.fromkeys(known, blank)})
        if not any(_lacks(conditioner, inputs, video) for conditioner in conditioners):
            return known
    return ()


def _lacks(conditioner: Conditioner, inputs: Inputs, video: VideoSize) -> bool:
    try:
        conditioner.check(inputs, video)
    except UsageError as fault:
        return fault.code == "input_missing"
    return False


def _frames(path: Path, clip: Clip, decoder: MediaDecoder | None) -> Frames:
    count = clip.size.num_frames
    frames = read_clip(path, fps=clip.fps, num_frames=count, start=clip.start, decoder=decoder).frames
    if len(frames) < count:
        raise UsageError(
            f"{path} has {len(frames)} frames from frame {clip.start} on, and the clip has {count}; give files of one "
            "length",
            code="clips_too_short",
        )
    return resized(frames, clip.size.height, clip.size.width)


def _mask(path: Path, clip: Clip, decoder: MediaDecoder | None) -> UInt8[np.ndarray, "f h w"]:
    count = clip.size.num_frames
    values = painted(path, decode_options(clip.fps, clip.start + count, mask=True), decoder).values
    values = values[clip.start : clip.start + count] if len(values) > 1 else values
    if len(values) not in (1, count):
        raise UsageError(
            f"{path} has {len(values)} frames from frame {clip.start} on, and the clip has {count}; give a mask of the "
            "same length, or of one frame",
            code="clips_too_short",
        )
    return resized(np.repeat(values[..., None], 3, axis=-1), clip.size.height, clip.size.width)[..., 0]


def resized(frames: Frames, height: int, width: int) -> UInt8[np.ndarray, "f {height} {width} 3"]:
    """Crop frames in the middle to the proportions of a size, and resize them to it: bicubic, antialiased."""
    if frames.shape[1:3] == (height, width):
        return frames
    rows, columns = kept_part(frames.shape[1:3], (height, width))
    pixels = rearrange(torch.from_numpy(np.ascontiguousarray(frames[:, rows, columns])), "f h w c -> f c h w")
    small = F.interpolate(pixels, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
    return rearrange(small, "f c h w -> f h w c").contiguous().numpy()
