"""Videos by FFmpeg: mp4, mov, webm, mkv, as 8-bit RGB with the colours of BT.709, whatever they were made for."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from io import BufferedReader
from typing import NoReturn

import av
import numpy as np
from av import VideoFrame
from av.codec import CodecContext
from av.codec.codec import UnknownCodecError
from av.container import InputContainer
from av.error import EOFError as FFmpegEnd
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream
from jaxtyping import UInt8

from kinoform.media.diagnostics import UnsupportedFile, Warn
from kinoform.media.lengths import matroska_end, mov_end
from kinoform.media.light import BT709, HLG, NAMES, PQ, PRIMARIES, narrowed
from kinoform.media.limits import MAX_VIDEO_PIXELS
from kinoform.media.resample import FrameSource, TimedFrame
from kinoform.media.sniff import MATROSKA, FileFormat
from kinoform.media.upright import NO_TURN, Stance, squared, turned

CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "prores", "dnxhd", "ffv1"}
"""Codecs that cameras, editors and browsers write. Rarer decoders are tried by fewer people and their attackers."""

TRANSPARENT = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders of transparency that lies beside the stream, by codec; FFmpeg's own leave it out."""

USUAL_RATE = Fraction(25)
"""Frames per second of a video that does not say."""

MATRICES = {1, 4, 5, 6, 7, 9, 10}
"""Ways from luma and chroma to RGB that swscale knows (ISO/IEC 23091-2)."""

LARGEST_SD = (576, 1024)
"""Height and width up to which a video that names no matrix is taken for BT.601, and else for BT.709, as players do."""


def open_video(file: BufferedReader, kind: FileFormat, length: int, warn: Warn) -> FrameSource:
    """Open the first video in a file of `length` bytes. Raises UnsupportedFile and PyAV's errors.

    The format is given and other files are refused, so that no playlist and no link leads elsewhere.
    """
    end = matroska_end(file) if kind is MATROSKA else mov_end(file, length)
    if end > length:
        raise EOFError
    file.seek(0)
    container = open_container(file, kind)
    stream = _video(container, warn)
    codec = stream.codec_context
    shape = stream.sample_aspect_ratio
    height, width = size = squared((codec.height, codec.width), shape)
    if max(width * height, codec.width * codec.height) > MAX_VIDEO_PIXELS:
        raise UnsupportedFile(
            f"has {width}x{height} pixels; at most {MAX_VIDEO_PIXELS} a frame are read; make it smaller",
            code="media_too_large",
        )
    if shape and size != (codec.height, codec.width):
        warn(f"has pixels {shape.numerator}:{shape.denominator} wide; it is taken as {width}x{height}, as players do")
    decoder = _decoder(stream, warn)
    # A header may promise less than the frames then ask for.
    decoder.options = {"max_pixels": str(MAX_VIDEO_PIXELS)}
    # One thread needs the least memory, and damage is found in the same place every time.
    decoder.thread_count = 1
    assert stream.time_base is not None
    seconds = Fraction(container.duration, av.time_base) if container.duration else None
    return FrameSource(
        size=size,
        frames=_frames(container, stream, decoder, warn),
        tick=stream.time_base,
        rate=stream.average_rate,
        count=stream.frames or None,
        seconds=stream.duration * stream.time_base if stream.duration else seconds,
        lossy=True,
        has_audio=bool(container.streams.audio or container.streams.subtitles),
    )


def open_container(file: BufferedReader, kind: FileFormat) -> InputContainer:
    """Open the container in a file, which can lead to no other file. Raises UnsupportedFile and PyAV's errors."""
    try:
        return av.open(
            file,
            "r",
            format=kind.demuxer,
            container_options={"protocol_whitelist": "file"},
            io_open=_refuse_links,
            metadata_errors="replace",
        )
    except FFmpegEnd as error:  # of a file that is whole
        raise UnsupportedFile("has no frame; give another video", code="media_no_video") from error


def _refuse_links(url: str, flags: int, options: object) -> NoReturn:
    raise UnsupportedFile("leads to another file; give a video that is whole", code="media_has_links")


def tracks(container: InputContainer) -> list[VideoStream]:
    """Return the video tracks, first the one that players show: that marked as default, else the first."""
    images = Disposition.attached_pic | Disposition.timed_thumbnails
    videos = [stream for stream in container.streams.video if not stream.disposition & images]
    return sorted(videos, key=lambda stream: not stream.disposition & Disposition.default)


def _video(container: InputContainer, warn: Warn) -> VideoStream:
    videos = tracks(container)
    if not videos:
        sound = "has sound but no image" if container.streams.audio else "has no image"
        raise UnsupportedFile(f"{sound}; give a video", code="media_no_video")
    if len(videos) > 1:
        index = 1 + sum(other.index < videos[0].index for other in videos)
        warn(f"has {len(videos)} video tracks; number {index} is taken")
    codec = videos[0].codec_context
    name = codec.codec.canonical_name if codec else "unknown"
    if name not in CODECS:
        raise UnsupportedFile(
            f"is coded as {name}, which is not read; convert it to h264 in an mp4 file", code="media_unsupported"
        )
    return videos[0]


def _decoder(stream: VideoStream, warn: Warn) -> VideoCodecContext:
    """Return the stream's decoder, or for transparency beside the stream (Matroska's alpha mode) one that reads it."""
    codec = stream.codec_context
    if {key.lower(): text for key, text in stream.metadata.items()}.get("alpha_mode") != "1":
        return codec
    reader = TRANSPARENT.get(codec.codec.canonical_name)
    if reader is None:
        warn(f"has transparency that is not read in {codec.codec.canonical_name}; hidden colours show")
        return codec
    try:
        decoder = CodecContext.create(reader, "r")
    except UnknownCodecError as error:
        raise UnsupportedFile(
            f"is transparent, which needs an FFmpeg with {reader}; convert it to prores 4444 in a mov file",
            code="media_unsupported",
        ) from error
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = codec.extradata
    return decoder


def _frames(
    container: InputContainer, stream: VideoStream, decoder: VideoCodecContext, warn: Warn
) -> Iterator[TimedFrame]:
    """Yield frames with times from 0 on. A frame ends where the next begins, the last after its own duration."""
    waiting, start, tick = None, None, stream.time_base or Fraction(1)
    usual, matrix = 1 / (stream.average_rate or USUAL_RATE), NO_TURN
    for frame in _decoded(container, stream, decoder):
        if frame.interlaced_frame:
            warn("is interlaced; its half images stay woven into each other")
        # A display orientation within the stream holds from its frame on.
        if (orientation := frame.side_data.get("DISPLAYMATRIX")) is not None:
            matrix = np.frombuffer(bytes(orientation), np.int32)
        time = Fraction(0) if waiting is None else waiting.end
        if frame.pts is not None:
            start = frame.pts * tick - time if start is None else start
            time = frame.pts * tick - start
        if waiting is not None:
            time = max(time, waiting.time)
            yield replace(waiting, end=time)
        stays = frame.duration * tick if frame.duration else usual
        a, b, _, c, d = matrix[:5].tolist()
        waiting = TimedFrame(
            pixels=partial(_upright, frame, stream.sample_aspect_ratio, matrix, warn),
            time=time,
            end=time + stays,
            stance=Stance(coded=(frame.height, frame.width), matrix=(a, b, c, d)),
        )
    if waiting is not None:
        yield waiting


def _decoded(container: InputContainer, stream: VideoStream, decoder: VideoCodecContext) -> Iterator[VideoFrame]:
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise EOFError
        for frame in decoder.decode(packet):
            if decoder.name == "libvpx":
                frame.colorspace = Colorspace.ITU601  # of all VP8; FFmpeg's own decoder says so
            yield frame


def _upright(frame: VideoFrame, shape: Fraction | None, matrix: np.ndarray, warn: Warn) -> np.ndarray:
    """Turn, mirror and stretch the pixels as the file says that they are shown."""
    return turned(rgb(frame, squared((frame.height, frame.width), shape), warn), matrix, warn)


def rgb(frame: VideoFrame, size: tuple[int, int], warn: Warn) -> UInt8[np.ndarray, "h w _"]:
    """Convert a frame to RGB in this height and width, or to RGBA where it has transparency.

    Warns of what is converted: more than 8 bits, HDR, other primaries.
    """
    parts = frame.format.components
    transparent = any(part.is_alpha for part in parts)
    hdr, primaries = frame.color_trc in (PQ, HLG), frame.color_primaries
    if hdr and primaries not in (*PRIMARIES, ColorPrimaries.BT709):
        primaries = ColorPrimaries.BT2020
    if hdr or primaries in PRIMARIES:
        name = NAMES.get(primaries, "BT.709")
        warn("is HDR; it is converted to 8-bit BT.709" if hdr else f"has the colours of {name}; they become BT.709")
        wide = _reformatted(frame, size, "rgba64le" if transparent else "rgb48le")
        narrow = narrowed(wide[..., :3], PRIMARIES.get(primaries, BT709), frame.color_trc)
        return np.concatenate([narrow, (wide[..., 3:] >> 8).astype(np.uint8)], axis=2) if transparent else narrow
    if max(part.bits for part in parts) > 8:
        warn(f"has {parts[0].bits} bits per colour; they are converted to 8")
    return _reformatted(frame, size, "rgba" if transparent else "rgb24")


def _reformatted(frame: VideoFrame, size: tuple[int, int], pixels: str) -> np.ndarray:
    height, width = size
    resized = size != (frame.height, frame.width)
    how = {"width": width, "height": height, "interpolation": Interpolation.BICUBIC} if resized else {}
    if frame.format.is_rgb:
        return frame.reformat(format=pixels, threads=1, **how).to_ndarray()
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    large = frame.height > LARGEST_SD[0] or frame.width > LARGEST_SD[1]
    guess = Colorspace.ITU709 if large else Colorspace.ITU601
    converted = frame.reformat(
        format=pixels,
        src_colorspace=frame.colorspace if frame.colorspace in MATRICES else guess,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,
        **how,
    )
    return converted.to_ndarray()
