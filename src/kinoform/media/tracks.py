"""Sound tracks as they were recorded, fitted into a kind of video: copied where it takes them, else coded anew."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

import av
from av import AudioFrame, AudioLayout, Packet
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError

from kinoform.media.codecs import REPEATABLE, VIDEO
from kinoform.media.diagnostics import UnsupportedFile, Warn
from kinoform.media.speakers import Mixer, named, nearest_rate, sample_format, speakers


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundCodecs:
    """Sound codecs that a kind of video takes as they are, None for all that can be written into it.

    The `encoder` is for all others, with its rate in Hz where it has one.
    """

    takes: frozenset[str] | None
    encoder: str
    rate: int | None = None


COMMON = frozenset({"aac", "ac3", "eac3", "flac", "mp3", "opus"})
SOUND_CODECS: Mapping[str, SoundCodecs] = {
    ".mp4": SoundCodecs(takes=COMMON | {"alac"}, encoder="aac"),
    # Opus knows few rates, this one among them.
    ".webm": SoundCodecs(takes=frozenset({"opus", "vorbis"}), encoder="libopus", rate=48_000),
    ".mkv": SoundCodecs(takes=None, encoder="libopus", rate=48_000),
}

PCM = frozenset({
    "pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be",
    "pcm_f32le", "pcm_f64le",
})  # fmt: skip

DECODED = COMMON | PCM | {"alac", "vorbis"}
"""Codecs that are coded anew. Rarer decoders are tried by fewer people and their attackers."""

MIN_BITS, BITS = 128_000, 64_000
"""Bits a second of a track that is coded anew: of the whole at least, and of each channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A sound track as its file tells; `tick` is the numerator and denominator of its unit of time in seconds."""

    tick: tuple[int, int]
    layout: str
    language: str
    title: str
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTrack:
    """A track, and the presentation time, decoding time and duration of each packet, in its ticks."""

    track: Track
    packets: list[tuple[int, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """A track to be written: as it is, or coded anew."""

    recorded: RecordedTrack
    coded: "Coded | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """The encoder of a track that is coded anew, with its speakers and its rate in Hz."""

    encoder: str
    layout: str
    rate: int


def joined(tracks: Sequence[RecordedTrack], data: bytes) -> bytes:
    """Encode recorded tracks as bytes, which `fit` reads."""
    return json.dumps([asdict(item) for item in tracks]).encode() + b"\n" + data


def fit(recording: bytes, suffix: str, warn: Warn) -> bytes:
    """Return a line of JSON of the tracks, and a file of sound alone of this kind; empty where none can be heard in it.

    Raises whatever PyAV raises.
    """
    recorded, data = _parted(recording)
    fitted = dict[int, _Fitted]()
    for index, item in enumerate(recorded):
        what = "sound" if len(recorded) == 1 else f"a sound track {index + 1}"
        try:
            fitted[index] = _fitted(data, index, item, suffix, lambda text, what=what: warn(f"has {what} {text}"))
        except UnsupportedFile as error:
            lost = "its sound" if len(recorded) == 1 else f"its sound track {index + 1}"
            warn(f"loses {lost}, {error}")
    if not fitted:
        return b""
    written = io.BytesIO()
    with _source(data) as source, av.open(
        written, "w", format=VIDEO[suffix].muxer, options=dict(REPEATABLE)
    ) as target:  # fmt: skip
        _write(source, fitted, target)
    about = [_about(item.recorded.track) for item in fitted.values()]
    return json.dumps(about).encode() + b"\n" + written.getvalue()


def canonical(stream: AudioStream) -> str:
    """Return the name of its codec, whoever decodes it."""
    codec = stream.codec_context
    return codec.codec.canonical_name if codec else "an unknown codec"


def _parted(recording: bytes) -> tuple[list[RecordedTrack], bytes]:
    head, _, data = recording.partition(b"\n")
    tracks = [
        RecordedTrack(
            track=Track(**{**item["track"], "tick": tuple(item["track"]["tick"])}),
            packets=[tuple(packet) for packet in item["packets"]],
        )
        for item in json.loads(head)
    ]
    return tracks, data


def _about(track: Track) -> dict[str, object]:
    return {"language": track.language, "title": track.title, "default": track.default}


def _source(data: bytes) -> InputContainer:
    return av.open(io.BytesIO(data), "r", format="matroska")


def _fitted(data: bytes, index: int, recorded: RecordedTrack, suffix: str, warn: Warn) -> _Fitted:
    """Decide how a track is written. Raises UnsupportedFile, with the end of a sentence, if it cannot be."""
    codecs = SOUND_CODECS[suffix]
    with _source(data) as source:
        stream = source.streams.audio[index]
        name = canonical(stream)
        if (codecs.takes is None or name in codecs.takes) and _written_as_is(stream, suffix):
            return _Fitted(recorded=recorded)
        if name not in DECODED:
            raise UnsupportedFile(f"in {name}, which is not read; convert the video", code="media_unsupported")
        first = _first(source, stream)
    if first is None:
        raise UnsupportedFile("which is damaged; copy or export the video again", code="media_damaged")
    first = named(first, recorded.track.layout)
    rate = codecs.rate or nearest_rate(codecs.encoder, first.sample_rate)
    layout = speakers(codecs.encoder, rate, first)
    there, channels = first.layout.name, first.layout.nb_channels
    if layout is None:
        raise UnsupportedFile(
            f"whose {channels} channels ({there}) cannot be mixed for {suffix}; convert it to stereo",
            code="media_unsupported",
        )
    change = "" if layout == there else f", for {layout} speakers instead of {there}"
    change += f", at {rate} instead of {first.sample_rate} Hz" if rate < first.sample_rate else ""
    warn(f"in {name}, which {suffix} does not take; it is coded anew as {codecs.encoder}{change}")
    return _Fitted(recorded=recorded, coded=Coded(encoder=codecs.encoder, layout=layout, rate=rate))


def _written_as_is(stream: AudioStream, suffix: str) -> bool:
    """Tell whether a file of this kind can hold the stream's packets, by trying."""
    try:
        with av.open(io.BytesIO(), "w", format=VIDEO[suffix].muxer) as target:
            target.add_stream_from_template(stream)
            target.start_encoding()
    except (FFmpegError, ValueError):
        return False
    return True


def _first(source: InputContainer, stream: AudioStream) -> AudioFrame | None:
    for packet in source.demux(stream):
        for frame in decoded(packet):
            return frame
    return None


def decoded(packet: Packet) -> list[AudioFrame]:
    """Decode the frames of a packet; none of one that is damaged, as players leave it silent."""
    try:
        return [item for item in packet.decode() if isinstance(item, AudioFrame)]
    except FFmpegError:
        return []


def _write(source: InputContainer, fitted: Mapping[int, _Fitted], target: OutputContainer) -> None:
    positions = {item.index: index for index, item in enumerate(source.streams.audio)}
    writers = {index: _Writer(source.streams.audio[index], item, target) for index, item in fitted.items()}
    streams = [source.streams.audio[index] for index in fitted]
    for packet in source.demux(*streams):
        for made in writers[positions[packet.stream_index]].packets(packet):
            target.mux(made)
    for writer in writers.values():
        for made in writer.rest():
            target.mux(made)


class _Writer:
    """One track on its way into the file, at the times that were recorded for its packets."""

    def __init__(self, stream: AudioStream, fitted: _Fitted, target: OutputContainer) -> None:
        self._times, self._tick = iter(fitted.recorded.packets), Fraction(*fitted.recorded.track.tick)
        if fitted.coded is None:
            self._target, self._coder = target.add_stream_from_template(stream), None
        else:
            self._coder = Coder(stream, fitted.recorded.track.layout, fitted.coded, target)

    def packets(self, packet: Packet) -> Iterator[Packet]:
        if not packet.size:
            return
        packet.time_base = self._tick
        packet.pts, packet.dts, packet.duration = next(self._times)
        if self._coder is not None:
            yield from self._coder.packets(decoded(packet))
        else:
            packet.stream = self._target
            yield packet

    def rest(self) -> Iterator[Packet]:
        if self._coder is not None:
            yield from self._coder.rest()


class Coder:
    """Coder of a track that is coded anew."""

    def __init__(self, source: AudioStream, layout: str, coded: Coded, target: OutputContainer) -> None:
        self._source, self._layout, stream = source, layout, target.add_stream(coded.encoder, rate=coded.rate)
        assert isinstance(stream, AudioStream)
        self._codec = stream.codec_context
        self._codec.layout, self._codec.format = AudioLayout(coded.layout), sample_format(coded.encoder)
        self._codec.time_base = Fraction(1, coded.rate)
        self._codec.bit_rate = max(MIN_BITS, BITS * self._codec.layout.nb_channels)
        self._encode = stream.encode
        self._mixer = Mixer(format=self._codec.format, layout=coded.layout, rate=coded.rate)

    def packets(self, frames: Iterable[AudioFrame]) -> Iterator[Packet]:
        for frame in frames:
            for mixed in self._mixer.mixed(named(frame, self._layout)):
                yield from self._encode(mixed)

    def rest(self) -> Iterator[Packet]:
        yield from self.packets(self._source.codec_context.decode(None))
        for mixed in self._mixer.rest():
            yield from self._encode(mixed)
        yield from self._encode(None)
