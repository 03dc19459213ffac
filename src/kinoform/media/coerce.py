"""Images, videos and masks from what a program has: file names, Pillow images, arrays, sequences of those."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kinoform.errors import UsageError
from kinoform.media.decoder_client import MediaDecoder
from kinoform.media.diagnostics import UnsupportedFile, Warn
from kinoform.media.image_decoder import pixels_of
from kinoform.media.paint import Paint, flat
from kinoform.media.paths import find_files
from kinoform.media.read import decode_options, painted, read_clip, read_image, read_mask, with_white
from kinoform.media.resample import (
    DecodeOptions,
    FrameSource,
    FrameTimingStats,
    TimedFrame,
    rate,
    resample_frames,
    times,
)
from kinoform.media.types import InputFile, InputImage, InputVideo, Mask
from kinoform.numbers import Number, Whole

EXACT = Fraction(1, 10**9)
"""The tick of times that no file has rounded."""


def image_of(value: object, *, decoder: MediaDecoder | None = None) -> InputImage:
    """Return an InputImage itself, or one of a file name, a Pillow image, or an array [h, w], [h, w, 3] or [h, w, 4].

    Arrays are uint8, or floats in 0..1. Warns of transparency, behind which white is put. Raises UsageError for
    other values, and as `read_image` does.
    """
    if isinstance(value, InputImage):
        return value
    if isinstance(value, str | os.PathLike):
        return read_image(value, decoder=decoder)
    with _warnings_of("the image") as warn:
        return InputImage(pixels=flat(_pixels(value, "an image", warn), warn))


def clip_of(
    value: object, *, fps: Number | None = None, num_frames: Whole | None = None, start: Whole | None = None,
    sound: bool = False, decoder: MediaDecoder | None = None,
) -> InputVideo:  # fmt: skip
    """Return an InputVideo of one, a Video, a file name, an array [f, h, w, 3 or 4], or a sequence for `image_of`.

    `fps`, `num_frames`, `start`, `sound` and `decoder` are as in `read_clip`; arrays and sequences have no times, as
    images in a folder.
    Warns and raises UsageError as `read_clip` and `image_of` do, and for other values.
    """
    if isinstance(value, str | os.PathLike):
        return read_clip(value, fps=fps, num_frames=num_frames, start=start, sound=sound, decoder=decoder)
    options = decode_options(fps, num_frames, start=start)
    if isinstance(value, InputVideo):
        return _resampled(value, options)
    if (isinstance(value, np.ndarray) and value.ndim == 4) or isinstance(value, list | tuple):
        return _resampled(InputVideo(frames=_stacked((image_of(item).pixels for item in value), "a video")), options)
    from kinoform.media.video import Video  # not for the others, since it brings FFmpeg along

    if not isinstance(value, Video):
        raise _unknown("a video", value)
    return _resampled(InputVideo(frames=value.frames, fps=value.fps, times=value.times, sound=value.sound), options)


def frames_of(clip: InputVideo, pick: Callable[[int, float | None], Sequence[int]], *, fps: Number) -> InputVideo:
    """Return the frames of a video that `pick` names by their number and rate, as a video of `fps` frames per second.

    Warns where they are not all of its frames.
    """
    there, rate = len(clip.frames), decode_options(fps, None).fps
    places = list(pick(there, clip.fps))
    if places == list(range(there)):
        return replace(clip, fps=rate, times=None)
    warnings.warn(
        f"{clip.name} gives {len(places)} frames at {rate:g} per second, from {there} of its own", stacklevel=2
    )
    return replace(clip, frames=clip.frames[places], fps=rate, times=None)


def mask_of(
    value: object, *, fps: Number | None = None, num_frames: Whole | None = None, start: Whole | None = None,
    video: InputVideo | None = None, decoder: MediaDecoder | None = None,
) -> Mask:  # fmt: skip
    """Return a Mask of one, a file name, a Pillow image, an array [h, w] or [f, h, w], or a sequence of images.

    Arrays may have 3 or 4 channels as their last axis. They are uint8, bool, or floats in 0..1. `fps`,
    `num_frames`, `start` and `decoder` are as in `read_mask`. A mask in the size that the frames of `video` have in
    their file, before they are turned and stretched as they are shown, is turned and stretched too, and it is said.
    Raises UsageError as `read_mask` does, for a mask without white, and for other values.
    """
    if isinstance(value, str | os.PathLike):
        return _standing(read_mask(value, fps=fps, num_frames=num_frames, start=start, decoder=decoder), video)
    options = decode_options(fps, num_frames, start=start)
    if isinstance(value, Mask):
        mask = value
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and _is_several(value)):
        paint = Paint()
        mask = Mask(values=_stacked((_painted(item, paint) for item in value), "a mask"))
    else:
        mask = Mask(values=_painted(value, Paint())[None])
    if options.start and len(mask.values) > 1:
        mask = replace(mask, values=mask.values[options.start :])
    max_frames = options.num_frames
    if max_frames is not None and len(mask.values) > max_frames:
        warnings.warn(f"{mask.name} is cut to {max_frames} frames", stacklevel=2)
        mask = Mask(values=mask.values[:max_frames], origin=mask.origin)
    return with_white(_standing(mask, video))


def file_of(value: object, name: str, *, largest: int) -> InputFile:
    """Read a file of at most `largest` bytes; an InputFile is handed on.

    Raises UsageError for a file that is missing or larger, for a folder, and for other values.
    """
    if isinstance(value, InputFile):
        return value
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"the {name} is a file name, not {type(value).__name__}", code="wrong_type")
    path = Path(value)
    if path.is_dir():
        raise UsageError(f"{value} is a folder; give a file", code="not_a_file")
    files = find_files(value)
    with files.paths[0].open("rb") as opened:
        data = opened.read(largest + 1)
    if len(data) > largest:
        raise UsageError(f"{value} has more than {largest} bytes; give a smaller file", code="file_too_large")
    return InputFile(data=data, origin=files.origin)


def _standing(mask: Mask, video: InputVideo | None) -> Mask:
    if video is None or video.stance is None or mask.size == video.size or mask.size != video.stance.coded:
        return mask
    height, width = video.size
    warnings.warn(
        f"{mask.name} lies as {video.name} does in its file; it is turned to {width}x{height} with it", stacklevel=3
    )
    return replace(mask, values=np.stack([video.stance.shown(item, video.size) for item in mask.values]))


def _is_several(values: np.ndarray) -> bool:
    """True if an array is a video of masks; with three axes and 3 or 4 as the last one it is an image in colour."""
    return values.ndim == 4 or (values.ndim == 3 and values.shape[2] not in (3, 4))


@contextmanager
def _warnings_of(name: str) -> Iterator[Warn]:
    """Warn, at the caller of whoever uses this, of all that was said, each once."""
    notes: dict[str, None] = {}
    try:
        yield lambda note: notes.setdefault(note)
    except UnsupportedFile as error:
        raise UsageError(f"{name} {error}", code=error.code) from error
    for note in notes:
        warnings.warn(f"{name} {note}", stacklevel=4)


def _resampled(clip: InputVideo, options: DecodeOptions) -> InputVideo:
    if options.fps is None and options.num_frames is None and not options.start:
        return clip
    own = None if clip.fps is None else Fraction(clip.fps)
    stays = [Fraction(0) if own is None else 1 / own] * len(clip.frames) if clip.times is None else clip.times.stays
    ends = list(accumulate(stays))
    source = FrameSource(
        size=clip.size,
        frames=(
            TimedFrame(pixels=partial(np.asarray, frame), time=end - stay, end=end)
            for frame, stay, end in zip(clip.frames, stays, ends, strict=True)
        ),
        tick=Fraction(0) if own is None else EXACT if clip.times is None else clip.times.tick,
        rate=own,
        count=len(clip.frames),
        seconds=ends[-1],
    )
    stats = FrameTimingStats()
    with _warnings_of(clip.name) as warn:
        frames = np.stack(list(resample_frames(source, options, stats, warn)))
    own_times = times(source, options, stats, len(frames))
    return replace(clip, frames=frames, fps=rate(source, options, stats), times=own_times)


def _painted(value: object, paint: Paint) -> UInt8[np.ndarray, "h w"]:
    if isinstance(value, InputImage):
        value = value.pixels
    if isinstance(value, str | os.PathLike):
        return painted(value, DecodeOptions(mask=True, single=True)).values[0]
    with _warnings_of("the mask") as warn:
        return paint.values(_pixels(value, "a mask", warn), warn)


def _pixels(value: object, what: str, warn: Warn) -> UInt8[np.ndarray, "h w _"]:
    if isinstance(value, Image.Image):
        return pixels_of(value, warn)
    if not isinstance(value, np.ndarray):
        raise _unknown(what, value)
    pixels = _bytes(value, what)
    if pixels.ndim == 2:
        return np.stack([pixels] * 3, axis=-1)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or not pixels.size:
        raise UsageError(f"{what} is an array [height, width, 3], not {list(value.shape)}", code="wrong_type")
    return pixels


def _bytes(values: np.ndarray, what: str) -> UInt8[np.ndarray, "..."]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if not np.issubdtype(values.dtype, np.floating):
        raise UsageError(
            f"{what} is uint8 in 0..255 or floats in 0..1, not {values.dtype}; convert it", code="wrong_type"
        )
    if values.size and not (values.min() >= 0 and values.max() <= 1):  # NaN is neither
        given = f"{values.min():g} to {values.max():g}"
        raise UsageError(
            f"{what} of floats has values in 0..1, not from {given}; rescale it, or give uint8",
            code="value_out_of_range",
        )
    return np.rint(values * 255).astype(np.uint8)


def _stacked(frames: Iterable[np.ndarray], what: str) -> np.ndarray:
    images = list(frames)
    if not images:
        raise UsageError(f"{what} needs at least one frame", code="frames_missing")
    for index, frame in enumerate(images):
        if frame.shape != images[0].shape:
            one, other = f"{images[0].shape[1]}x{images[0].shape[0]}", f"{frame.shape[1]}x{frame.shape[0]}"
            raise UsageError(
                f"{what} has one size, but frame 0 is {one} and frame {index} is {other}; make them alike",
                code="sizes_differ",
            )
    return np.stack(images)


def _unknown(what: str, value: object) -> UsageError:
    kinds = "a file name, a Pillow image, a numpy array, or (for videos and masks) a list of these"
    shape = f" {list(value.shape)}" if isinstance(value, np.ndarray) else ""
    return UsageError(f"{what} is {kinds}, not {type(value).__name__}{shape}", code="wrong_type")
