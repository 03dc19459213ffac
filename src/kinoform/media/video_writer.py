"""Video in and out: mp4, webm and mkv, written frame by frame in constant memory."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av import Packet
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from jaxtyping import Shaped, UInt8

from kinoform.errors import KinoformError, UsageError, nearest
from kinoform.files import check_writable, whole
from kinoform.media.audio import Fitted, mixed
from kinoform.media.codecs import AV1, H264, VIDEO, Encoding, VideoCodec
from kinoform.media.metadata import tags
from kinoform.media.resample import Times, exact_rate

RGB_MATRIX = 0
"""The colour matrix of pixels that stay RGB (ISO/IEC 23091-2: identity), which PyAV has no name for."""


def check_video(path: Path, *, encoding: Encoding, shape: tuple[int, int, int], force: bool) -> None:
    """Refuse early what `write_video` would refuse late. `shape`: frames, height, width. Raises UsageError."""
    _check_size(encoding, *shape[1:])
    check_writable(path, force=force)


def write_video(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    path: Path,
    *,
    encoding: Encoding,
    fps: float,
    times: Times | None = None,
    params: Mapping[str, object] | None = None,
    force: bool = False,
    sound: Fitted | None = None,
) -> None:
    """Write RGB frames, taken one at a time: as RGB with a lossless codec, else in 4:2:0 with BT.709 colours.

    The same video gives the same bytes on every machine with the same encoder version. Frames are shown at `times`,
    where given, else `fps` of them in a second. `params` go into the metadata, None writes none; `sound` was fitted
    to this kind of file. Raises UsageError when there is no frame,
    a side is odd in 4:2:0, frames differ in size or the file exists without `force`; KinoformError when the
    encoder fails or the disk is full. On any error, a file that stood there is untouched.
    """
    check_writable(path, force=force)
    texts = tags(params)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UsageError(f"{path}: a video needs at least one frame", code="frames_missing")
    height, width, _ = first.shape
    _check_size(encoding, height, width)
    _hush(encoding.codec)
    kind = encoding.container
    with whole(path, force=force) as temporary, _same_priority():
        try:
            with av.open(str(temporary), "w", format=kind.muxer, options=dict(kind.layout)) as container:
                container.metadata.update(texts)
                stream = _stream(container, encoding, height, width, fps, times)
                with mixed(container, sound) as until:
                    _encode(chain([first], frames), container, stream, times, until)
        except FFmpegError as error:
            if isinstance(error, OSError):  # `whole` knows what to say about a disk
                raise
            raise KinoformError(f"{path}: the video encoder failed: {error}", code="encoder_failed") from error


@contextmanager
def _same_priority() -> Iterator[None]:
    """SVT-AV1 makes a process that root runs a real-time one, which starves all others; then it is what it was."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != before[0]:
            os.sched_setscheduler(0, *before)


def read_video(path: Path) -> tuple[UInt8[np.ndarray, "f h w 3"], float]:
    """Read all frames as RGB, and the frames per second. Raises UsageError when the file cannot be read."""
    kind = VIDEO.get(path.suffix.lower())
    if kind is None:
        raise UsageError(
            f"{path}: no video format {path.suffix!r}; {nearest(path.suffix, VIDEO)}", code="unknown_format"
        )
    try:
        # The format is given, or a playlist with this extension could make the library open other files.
        with av.open(str(path.absolute()), format=kind.demuxer, metadata_errors="replace") as container:
            stream = container.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(stream)]
            return np.stack(frames), float(stream.average_rate or 0)
    except (FFmpegError, OSError, IndexError, ValueError) as error:
        raise UsageError(
            f"{path} is not a {kind.suffix[1:]} video that can be read: {error}", code="media_damaged"
        ) from error


def evened(values: Shaped[np.ndarray, "f height width ..."]) -> Shaped[np.ndarray, "f h w ..."]:
    """Repeat the last row and column where their number is odd, since 4:2:0 takes even ones."""
    rows, columns = (side % 2 for side in values.shape[1:3])
    return np.pad(values, ((0, 0), (0, rows), (0, columns), *[(0, 0)] * (values.ndim - 3)), mode="edge")


def _check_size(encoding: Encoding, height: int, width: int) -> None:
    if encoding.codec.halves_colour and (height % 2 or width % 2):
        even = f"{max(2, width // 2 * 2)}x{max(2, height // 2 * 2)}"
        kind = encoding.container.suffix[1:]
        raise UsageError(
            f"{kind} needs an even width and height with {encoding.codec.name}, not {width}x{height}; "
            f"take {even}, an even upscale, a lossless .mkv, or write a folder of frames",
            code="size_not_multiple",
        )


def _hush(codec: VideoCodec) -> None:
    """SVT-AV1 writes its settings to stderr for every video; only this variable stops it."""
    if codec is AV1:
        os.environ.setdefault("SVT_LOG", "1")


def _stream(
    container: OutputContainer, encoding: Encoding, height: int, width: int, fps: float, times: Times | None
) -> VideoStream:
    rate = exact_rate(fps)
    stream = container.add_stream(encoding.codec.encoder, rate=rate, options=encoding.options)
    assert isinstance(stream, VideoStream)
    stream.height, stream.width, stream.pix_fmt = height, width, encoding.codec.pixels
    codec = stream.codec_context
    codec.time_base = 1 / rate if times is None else times.tick
    if times is not None and encoding.codec is H264:
        # In mp4, how long the last frame stays is that of the last one written, which must not be another.
        codec.max_b_frames = 0
    # x264 decides differently with each number of threads; one thread gives the same file on every machine.
    codec.thread_count = 1
    codec.color_primaries = ColorPrimaries.BT709
    codec.color_trc = ColorTrc.BT709
    codec.colorspace = RGB_MATRIX if encoding.codec.lossless else Colorspace.ITU709
    codec.color_range = ColorRange.JPEG if encoding.codec.lossless else ColorRange.MPEG
    return stream


def _encode(
    frames: Iterator[np.ndarray],
    container: OutputContainer,
    stream: VideoStream,
    times: Times | None,
    until: Callable[[float], None],
) -> None:
    """Sound is written beside the frames that it is heard with, so that a video plays while it loads."""
    tick = stream.codec_context.time_base
    stays = {} if times is None else dict(zip(times.begins, (round(stay / tick) for stay in times.stays), strict=True))
    for index, pixels in enumerate(frames):
        first = (stream.height, stream.width, 3)
        if pixels.shape != first:
            raise UsageError(
                f"frame {index} has the shape {pixels.shape}, the first one has {first}", code="sizes_differ"
            )
        frame = _converted(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"), stream)
        frame.pts = index if times is None else times.begins[index]
        frame.time_base = tick
        container.mux(_staying(stream.encode(frame), stays))
        until(float(frame.pts * tick))
    container.mux(_staying(stream.encode(), stays))
    until(math.inf)


def _staying(packets: list[Packet], stays: Mapping[int, int]) -> list[Packet]:
    """Give packets their own durations, since encoders give the last one that of a mean frame."""
    for packet in packets:
        if packet.pts is not None and packet.pts in stays:
            packet.duration = stays[packet.pts]
    return packets


def _converted(frame: av.VideoFrame, stream: VideoStream) -> av.VideoFrame:
    pixels, colours = stream.pix_fmt, stream.codec_context.colorspace
    if colours == RGB_MATRIX:
        return frame.reformat(format=pixels, threads=1)
    return frame.reformat(
        format=pixels,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        dst_colorspace=Colorspace.ITU709,
        threads=1,
    )
