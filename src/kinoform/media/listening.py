"""The process that takes the sound out of a stranger's film; `media.audio` starts it."""

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av import Packet
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from kinoform.media.codecs import REPEATABLE, VIDEO
from kinoform.media.decoding import confine
from kinoform.media.footage import opened
from kinoform.media.kinds import FIRST, kind_of
from kinoform.media.remarks import Refused, Say


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """The codecs of sound that a kind of film takes as they are; the encoder for all others, and its rate in Hz."""

    takes: frozenset[str]
    encoder: str
    rate: int | None = None


COMMON = frozenset({"aac", "ac3", "eac3", "flac", "mp3", "opus"})
VOICES: Mapping[str, Voice] = {
    ".mp4": Voice(takes=COMMON | {"alac"}, encoder="aac"),
    # Opus knows few rates, this one among them.
    ".webm": Voice(takes=frozenset({"opus", "vorbis"}), encoder="libopus", rate=48_000),
    ".mkv": Voice(takes=COMMON | {"vorbis", "pcm_s16le", "pcm_s24le"}, encoder="libopus", rate=48_000),
}

DECODED = COMMON | {"alac", "vorbis", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le"}
"""What is coded anew. Rarer decoders are tried by fewer people and their attackers."""


def main() -> None:
    """Do the job that standard input describes: what there is to say as a line of JSON, then a file of sound."""
    job, out, notes = json.loads(sys.stdin.buffer.read()), os.fdopen(1, "wb"), list[str]()
    confine()
    try:
        data = listen(Path(job["path"]), job["suffix"], job["seconds"], notes.append)
    except Refused as error:
        notes, data = [f"loses its sound: it {error}"], b""
    except Exception:  # libraries raise anything over a damaged file
        notes, data = ["loses its sound, which is damaged or cannot be cut; convert the film"], b""
    out.write(json.dumps(notes).encode() + b"\n" + data)
    out.flush()


def listen(path: Path, suffix: str, seconds: float, say: Say) -> bytes:
    """The first `seconds` of the sound in a file as one of its own; empty for pictures and silent films.

    Raises Refused for codecs that are not read, or whatever PyAV raises.
    """
    with path.open("rb") as file:
        kind = kind_of(file.read(FIRST))
        file.seek(0)
        if not kind.demuxer:
            return b""
        source = opened(file, kind)
        if not source.streams.audio:
            return b""
        if suffix not in VOICES:
            say(f"loses its sound, since {suffix or 'a folder of frames'} has none; take {', '.join(VOICES)}")
            return b""
        return _written(source, suffix, seconds, say)


def _written(source: InputContainer, suffix: str, seconds: float, say: Say) -> bytes:
    stream, voice, written = source.streams.audio[0], VOICES[suffix], io.BytesIO()
    name = stream.codec_context.codec.canonical_name
    with av.open(written, "w", format=VIDEO[suffix].muxer, options=dict(REPEATABLE)) as target:
        if name in voice.takes:
            _copy(_packets(source, stream, seconds), stream, target)
        elif name in DECODED:
            say(f"has sound in {name}, which {suffix} does not take; it is coded anew as {voice.encoder}")
            _encode(_packets(source, stream, seconds), stream, target, voice)
        else:
            raise Refused(f"has sound in {name}, which is not read; convert the film", code="media_unsupported")
    return written.getvalue()


def _packets(source: InputContainer, stream: AudioStream, seconds: float) -> Iterator[Packet]:
    """Those that are heard while the film lasts; time 0 is that of its first frame."""
    tick, films = stream.time_base or Fraction(1), source.streams.video
    begin = films[0].start_time * films[0].time_base if films and films[0].start_time and films[0].time_base else 0
    shift = round(begin / tick)
    for packet in source.demux(stream):
        if packet.pts is None or packet.dts is None:
            continue
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if packet.pts * tick >= seconds:
            return
        # What a decoder needs before the first sound is left out: a file of sound alone cannot begin below 0.
        if (packet.pts + (packet.duration or 0)) * tick > 0:
            yield packet


def _copy(packets: Iterator[Packet], stream: AudioStream, target: OutputContainer) -> None:
    copy = target.add_stream_from_template(stream)
    for packet in packets:
        packet.stream = copy
        target.mux(packet)


def _encode(packets: Iterator[Packet], stream: AudioStream, target: OutputContainer, voice: Voice) -> None:
    copy = target.add_stream(voice.encoder, rate=voice.rate or stream.codec_context.sample_rate)
    assert isinstance(copy, AudioStream)
    copy.codec_context.layout = stream.codec_context.layout
    for packet in packets:
        for frame in packet.decode():
            target.mux(copy.encode(frame))  # pyright: ignore[reportArgumentType]
    for frame in stream.codec_context.decode(None):
        target.mux(copy.encode(frame))
    target.mux(copy.encode(None))
