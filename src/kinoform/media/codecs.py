"""Video files that are written: their containers, the codecs in each, and the settings of the encoders."""

from collections.abc import Mapping
from dataclasses import dataclass

from kinoform.errors import UsageError, nearest
from kinoform.numbers import Whole, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoCodec:
    """An encoder of FFmpeg, the pixels it is given, and its options.

    `crf` is the constant quality by default, from 0 (best) to `max_crf`; None for a lossless codec.
    """

    name: str
    encoder: str
    pixels: str
    options: Mapping[str, str]
    crf: int | None = None
    max_crf: int = 63

    @property
    def lossless(self) -> bool:
        return self.crf is None

    @property
    def halves_colour(self) -> bool:
        """True if two by two pixels share a colour, so that both sides have to be even."""
        return self.pixels.startswith("yuv420p")


H264 = VideoCodec(
    name="h264",
    encoder="libx264",
    pixels="yuv420p",
    # Without the last, x264 gives other bytes in some runs; see test_the_same_video_gives_the_same_bytes.
    options={"preset": "medium", "x264-params": "cpu-independent=1"},
    crf=18,
    max_crf=51,
)
VP9 = VideoCodec(
    name="vp9",
    encoder="libvpx-vp9",
    pixels="yuv420p",
    # Without a bit rate of 0 the constant quality is only an upper bound.
    options={"b": "0", "deadline": "good", "cpu-used": "2"},
    crf=24,
)
AV1 = VideoCodec(
    name="av1",
    encoder="libsvtav1",
    pixels="yuv420p10le",
    # One level of parallelism, since more of them change the bytes.
    options={"preset": "6", "svtav1-params": "lp=1"},
    crf=24,
)
FFV1 = VideoCodec(
    name="ffv1",
    encoder="ffv1",
    # yuv444p would lose the last bit of most colours; this is RGB in the order of bytes that the encoder takes.
    pixels="bgr0",
    # Every frame stands alone (g=1) with a checksum, so an editor can seek and damage is found.
    options={"level": "3", "coder": "1", "context": "1", "g": "1", "slicecrc": "1"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A kind of video file: its extension, FFmpeg's names for writing and reading it, its options.

    The first of `codecs` is the default.
    """

    suffix: str
    muxer: str
    demuxer: str
    layout: Mapping[str, str]
    codecs: tuple[VideoCodec, ...]


REPEATABLE = {"fflags": "+bitexact"}
"""Options for equal bytes: by default each Matroska file has an identity drawn at random."""

CONTAINERS = (
    Container(
        suffix=".mp4",
        muxer="mp4",
        demuxer="mov",
        # The index comes before the images, so that a video plays while it loads; any metadata key is kept.
        layout={"movflags": "+faststart+use_metadata_tags"},
        codecs=(H264, AV1),
    ),
    Container(suffix=".webm", muxer="webm", demuxer="matroska", layout=REPEATABLE, codecs=(VP9, AV1)),
    Container(suffix=".mkv", muxer="matroska", demuxer="matroska", layout=REPEATABLE, codecs=(FFV1, H264, VP9, AV1)),
)
VIDEO = {container.suffix: container for container in CONTAINERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Encoding of one video. `crf` is None for a lossless codec."""

    container: Container
    codec: VideoCodec
    crf: int | None

    @property
    def options(self) -> dict[str, str]:
        return {**self.codec.options} if self.crf is None else {"crf": str(self.crf), **self.codec.options}


def encoding(container: Container, codec: str | None = None, crf: Whole | None = None) -> Encoding:
    """Choose the container's default codec and quality, or those named.

    Raises UsageError for a codec that the container does not take, and for a quality out of its range.
    """
    known = {item.name: item for item in container.codecs}
    chosen = container.codecs[0] if codec is None else known.get(codec)
    if chosen is None:
        raise UsageError(
            f"no codec {codec!r} in {container.suffix} videos; {nearest(str(codec), known)}", code="unknown_codec"
        )
    if crf is not None and chosen.lossless:
        raise UsageError(
            f"{chosen.name} is lossless and has no crf; leave it out, or take another codec", code="options_conflict"
        )
    best = chosen.crf if crf is None else whole(f"crf of {chosen.name}", crf, 0, chosen.max_crf)
    return Encoding(container=container, codec=chosen, crf=best)
