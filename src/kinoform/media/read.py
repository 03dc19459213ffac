"""Images, videos and masks from files of strangers: png, jpeg, webp, gif, mp4, mov, webm, mkv, folders of frames."""

import warnings
from dataclasses import replace

from kinoform.errors import UsageError
from kinoform.media.decoder_client import Decoded, MediaDecoder, MediaHeader, ProcessEach, decoded
from kinoform.media.decoder_process import Job
from kinoform.media.limits import MAX_FRAMES, RATES
from kinoform.media.paths import MediaFiles, PathLike, find_files, printable
from kinoform.media.resample import DecodeOptions
from kinoform.media.types import InputImage, InputVideo, Mask, Origin
from kinoform.numbers import Number, Whole, real, whole

WHITE = 128
"""The darkest grey that counts as white."""


def read_image(path: PathLike, *, decoder: MediaDecoder | None = None) -> InputImage:
    """Read a png, jpeg or webp file, or the first frame of an animation, turned as its Exif tag says.

    The contents decide what a file is, not its name. Warns of what is changed or left out: transparency (white is
    put behind it), 16 bits, further frames. Raises UsageError when the file is missing, something else, damaged
    or cut short, or above a limit of `media.limits`. Files are decoded in a process of their own: by
    `decoder`, or in a new one each.
    """
    result, origin = _read(path, DecodeOptions(single=True), decoder)
    return InputImage(pixels=result.frames[0], origin=origin)


def read_clip(
    path: PathLike, *, fps: Number | None = None, num_frames: Whole | None = None, start: Whole | None = None,
    sound: bool = False, decoder: MediaDecoder | None = None,
) -> InputVideo:  # fmt: skip
    """Read an mp4, mov, webm or mkv video, a gif or animated webp, a folder of frames, or an image as one frame.

    The frames of a folder come in natural order (2 before 10). `fps` takes a video at that rate: frame k is the
    one on screen at k / fps. Images have no times: all are taken, and `fps` is their rate. `num_frames` takes at
    most so many; from frame `start` on, and then nothing is said of what is left out (an image of one frame begins
    anywhere). Frames are turned as the file says; more than 8 bits and HDR become 8-bit BT.709. With `sound` its sound
    tracks are taken too, as far as the frames last, if they begin at 0.
    Warns of what is changed or left out. Raises UsageError as `read_image` does, and for a folder without
    images, frames of several sizes, sound alone, and a rate or number out of range.
    """
    result, origin = _read(path, decode_options(fps, num_frames, start=start), decoder)
    clip = InputVideo(frames=result.frames, fps=result.fps, origin=origin, times=result.times, stance=result.stance)
    if not sound or start or clip.seconds is None or not result.has_audio:
        return clip
    from kinoform.media.audio import record  # not for the others, since it brings FFmpeg along

    return replace(clip, sound=record(path, seconds=clip.seconds))


def read_mask(
    path: PathLike, *, fps: Number | None = None, num_frames: Whole | None = None, start: Whole | None = None,
    decoder: MediaDecoder | None = None,
) -> Mask:  # fmt: skip
    """Read an image or video, white where something changes. Greys stay; of colours the brightness counts.

    In an image with one colour of paint on a transparent ground, what is painted changes. Otherwise as
    `read_clip`. Raises UsageError also when no pixel of any frame is white (128 or more).
    """
    return with_white(painted(path, decode_options(fps, num_frames, start=start, mask=True), decoder))


def decode_options(
    fps: Number | None, num_frames: Whole | None, *, start: Whole | None = None, mask: bool = False
) -> DecodeOptions:
    """Check options of reading.

    Raises UsageError for a rate below 0.01 or above 1000, for less than one frame, and for one below 0.
    """
    return DecodeOptions(
        fps=None if fps is None else real("fps", fps, *RATES),
        num_frames=None if num_frames is None else whole("num_frames", num_frames, 1, MAX_FRAMES),
        mask=mask,
        start=None if start is None else whole("start", start, 0, MAX_FRAMES),
    )


def painted(path: PathLike, options: DecodeOptions, decoder: MediaDecoder | None = None) -> Mask:
    """Read a mask that may be black: one frame of several, say. Raises UsageError as `read_clip` does."""
    result, origin = _read(path, options, decoder)
    return Mask(values=result.frames[..., 0], origin=origin)


def with_white(mask: Mask) -> Mask:
    """Return the mask itself. Raises UsageError when nothing in it is white."""
    brightest = int(mask.values.max())
    if brightest < WHITE:
        raise UsageError(
            f"{mask.name} is a mask without white: its brightest value is {brightest} of 255; "
            "paint white where the video is to change",
            code="mask_empty",
        )
    return mask


def read_header(path: PathLike, *, decoder: MediaDecoder | None = None) -> tuple[MediaHeader, Origin]:
    """Return what a file or folder says of its frames, and the hash of its bytes.

    Few frames are decoded, unless the file does not say how many it has. Raises UsageError as `read_clip` does; damage
    behind the beginning is not seen.
    """
    files = find_files(path)
    return (decoder or ProcessEach()).header(_job(files, DecodeOptions())), files.origin


def _read(path: PathLike, options: DecodeOptions, decoder: MediaDecoder | None) -> tuple[Decoded, Origin]:
    files = find_files(path)
    if options.single and len(files.paths) > 1:
        raise UsageError(f"{files.name} is a folder of {len(files.paths)} images; give one of them", code="not_a_file")
    job = _job(files, options)
    result = decoded(job) if decoder is None else decoder.decoded(job)
    for note in result.notes:
        warnings.warn(f"{files.name} {note}", stacklevel=3)
    return result, files.origin


def _job(files: MediaFiles, options: DecodeOptions) -> Job:
    return Job(
        name=files.name,
        paths=[str(item) for item in files.paths],
        names=[files.name] if len(files.paths) == 1 else [printable(item.name) for item in files.paths],
        options=options,
    )
