"""mp4 in and out: H.264 that every browser plays, written frame by frame in constant memory."""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from jaxtyping import UInt8

from kinoform.errors import KinoformError, UsageError
from kinoform.files import check_writable, whole
from kinoform.media.metadata import tags

QUALITY = {"crf": "18", "preset": "medium", "x264-params": "cpu-independent=1"}
"""Without the last, x264 gives other bytes in some runs; see test_the_same_film_gives_the_same_bytes."""

LAYOUT = {"movflags": "+faststart+use_metadata_tags"}
"""The index comes before the pictures, so that a film plays while it loads; any metadata key is kept."""

LARGEST_DENOMINATOR = 1001
"""Enough to give 24000/1001 and its relatives exactly."""


def check_mp4(path: Path, *, shape: tuple[int, int, int], force: bool) -> None:
    """Refuse early what `write_mp4` would refuse late. `shape`: frames, height, width. Raises UsageError."""
    _check_size(*shape[1:])
    check_writable(path, force=force)


def write_mp4(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    path: Path,
    *,
    fps: float,
    params: Mapping[str, object] | None = None,
    force: bool = False,
) -> None:
    """Write RGB frames, taken one at a time, as H.264 in 4:2:0 with BT.709 colours.

    The same film gives the same bytes on every machine with the same encoder version. `params` go into the
    metadata, None writes none. Raises UsageError when there is no frame, a side is odd,
    frames differ in size or the file exists without `force`; KinoformError when the encoder fails or the
    disk is full. On any error, a file that stood there is untouched.
    """
    check_writable(path, force=force)
    texts = tags(params)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UsageError(f"{path}: a film needs at least one frame")
    height, width, _ = first.shape
    _check_size(height, width)
    with whole(path, force=force) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4", options=LAYOUT) as container:
                container.metadata.update(texts)
                stream = _stream(container, height, width, fps)
                _encode(chain([first], frames), container, stream)
        except FFmpegError as error:
            if isinstance(error, OSError):  # `whole` knows what to say about a disk
                raise
            raise KinoformError(f"{path}: the video encoder failed: {error}") from error


def read_mp4(path: Path) -> tuple[UInt8[np.ndarray, "f h w 3"], float]:
    """All frames as RGB, and the frames per second. Raises UsageError when the file cannot be read."""
    try:
        with av.open(str(path.absolute()), format="mov", metadata_errors="replace") as container:
            stream = container.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            return np.stack(frames), float(stream.average_rate or 0)
    except (FFmpegError, OSError, IndexError, ValueError) as error:
        raise UsageError(f"{path} is not an mp4 film that can be read: {error}") from error


def _check_size(height: int, width: int) -> None:
    if height % 2 or width % 2:
        even = f"{max(2, width // 2 * 2)}x{max(2, height // 2 * 2)}"
        raise UsageError(
            f"mp4 needs an even width and height, not {width}x{height}; "
            f"take {even}, an even upscale, or write a folder of frames"
        )


def _stream(container: OutputContainer, height: int, width: int, fps: float) -> VideoStream:
    rate = Fraction(fps).limit_denominator(LARGEST_DENOMINATOR)
    stream = container.add_stream("libx264", rate=rate, options=QUALITY)
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    codec = stream.codec_context
    codec.time_base = 1 / rate
    # x264 decides differently with each number of threads; one thread gives the same file on every machine.
    codec.thread_count = 1
    codec.colorspace = Colorspace.ITU709
    codec.color_primaries = ColorPrimaries.BT709
    codec.color_trc = ColorTrc.BT709
    codec.color_range = ColorRange.MPEG
    return stream


def _encode(frames: Iterator[np.ndarray], container: OutputContainer, stream: VideoStream) -> None:
    for place, pixels in enumerate(frames):
        first = (stream.height, stream.width, 3)
        if pixels.shape != first:
            raise UsageError(f"frame {place} has the shape {pixels.shape}, the first one has {first}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_colorspace=Colorspace.ITU709,
            threads=1,
        )
        frame.pts = place
        frame.time_base = stream.codec_context.time_base
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
