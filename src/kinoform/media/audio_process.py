"""The process that takes the sound out of a stranger's video, and fits it into another; `media.audio` starts it.

A job comes in as a line of JSON, perhaps with bytes behind it; out go a line of JSON of what is to be said, and bytes.
"""

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av import Packet
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Disposition

from kinoform.media.codecs import REPEATABLE
from kinoform.media.decoder_process import confine
from kinoform.media.diagnostics import UnsupportedFile, Warn
from kinoform.media.sniff import FIRST, sniff_format
from kinoform.media.speakers import usual
from kinoform.media.tracks import Coded, Coder, RecordedTrack, Track, canonical, decoded, fit, joined
from kinoform.media.video_decoder import open_container, tracks

MAX_TRACKS = 32

EXACT = {
    "pcm_alaw": "pcm_s16le", "pcm_mulaw": "pcm_s16le", "pcm_s8": "pcm_s16le",
    "pcm_f32be": "pcm_f32le", "pcm_f64be": "pcm_f64le",
}  # fmt: skip
"""Codecs of samples that Matroska cannot hold, and those that hold them exactly."""


def main() -> None:
    """Do the job that standard input describes."""
    head, _, data = sys.stdin.buffer.read().partition(b"\n")
    job, out, notes = json.loads(head), os.fdopen(1, "wb"), list[str]()
    confine()
    try:
        if "path" in job:
            result = record(Path(job["path"]), job["seconds"], notes.append)
        else:
            result = fit(data, job["suffix"], notes.append)
    except UnsupportedFile as error:
        notes, result = [f"loses its sound: it {error}"], b""
    except Exception:  # libraries raise anything over a damaged file
        notes, result = ["loses its sound, which is damaged or cut short; copy or export it again"], b""
    out.write(json.dumps(list(dict.fromkeys(notes))).encode() + b"\n" + result)
    out.flush()


def record(path: Path, seconds: float, warn: Warn) -> bytes:
    """Copy all sound tracks of a file, as far as they are heard in its first `seconds`; empty where it has none.

    Their packets are copied. Raises UnsupportedFile, or whatever PyAV raises.
    """
    with path.open("rb") as file:
        kind = sniff_format(file.read(FIRST))
        file.seek(0)
        if not kind.demuxer:
            return b""
        source = open_container(file, kind)
        if source.streams.subtitles:
            warn(f"has {len(source.streams.subtitles)} tracks of subtitles, which are left out")
        if not source.streams.audio:
            return b""
        return _recorded(source, seconds, warn)


def _recorded(source: InputContainer, seconds: float, warn: Warn) -> bytes:
    written, recorders = io.BytesIO(), dict[int, _Recorder]()
    # Matroska takes nearly all codecs, but counts milliseconds: the times of the packets stand beside it.
    with av.open(written, "w", format="matroska", options=dict(REPEATABLE)) as target:
        for index, stream in enumerate(source.streams.audio):
            try:
                if index >= MAX_TRACKS:
                    raise ValueError
                recorders[stream.index] = _Recorder(stream, target)
            except ValueError:
                warn(f"loses its sound track {index + 1}, in {canonical(stream)}, which is not read; convert the video")
        if not recorders:
            return b""
        streams = [item for item in source.streams.audio if item.index in recorders]
        for packet in _packets(source, streams, seconds):
            for made in recorders[packet.stream_index].packets(packet):
                target.mux(made)
        for item in recorders.values():
            for made in item.rest():
                target.mux(made)
    return joined([item.recorded for item in recorders.values()], written.getvalue())


class _Recorder:
    """A track on its way into the recording, which hears when each of its packets is due.

    Raises ValueError for a codec that the recording cannot hold, in no other form either.
    """

    def __init__(self, stream: AudioStream, target: OutputContainer) -> None:
        encoder, rate = EXACT.get(canonical(stream)), stream.codec_context.sample_rate
        if encoder is None:
            self._copy, self._coder = target.add_stream_from_template(stream), None
            tick = stream.time_base or Fraction(1)
        else:
            layout = usual(stream.codec_context.layout)
            self._coder = Coder(stream, layout, Coded(encoder=encoder, layout=layout, rate=rate), target)
            tick = Fraction(1, rate)
        self.recorded = RecordedTrack(track=_track(stream, tick), packets=[])

    def packets(self, packet: Packet) -> Iterator[Packet]:
        if self._coder is None:
            packet.stream = self._copy
            yield self._noted(packet)
        else:
            yield from map(self._noted, self._coder.packets(decoded(packet)))

    def rest(self) -> Iterator[Packet]:
        if self._coder is not None:
            yield from map(self._noted, self._coder.rest())

    def _noted(self, packet: Packet) -> Packet:
        self.recorded.packets.append((packet.pts or 0, packet.dts or 0, packet.duration or 0))
        return packet


def _track(stream: AudioStream, tick: Fraction) -> Track:
    return Track(
        tick=(tick.numerator, tick.denominator),
        layout=stream.codec_context.layout.name,
        language=stream.metadata.get("language", ""),
        title=stream.metadata.get("title", ""),
        default=bool(stream.disposition & Disposition.default),
    )


def _packets(source: InputContainer, streams: Sequence[AudioStream], seconds: float) -> Iterator[Packet]:
    """Yield the packets that are heard while the video lasts; time 0 is that of its first frame."""
    shown = tracks(source)[:1]
    begin = next((item.start_time * item.time_base for item in shown if item.start_time and item.time_base), 0)
    waiting = {item.index for item in streams}
    for packet in source.demux(*streams):
        if packet.pts is None or packet.dts is None or not packet.size:
            continue
        tick = packet.time_base
        shift = round(begin / tick)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if packet.pts * tick >= seconds:
            waiting.discard(packet.stream_index)
            if not waiting:
                return
        # What a decoder needs before the first sound is left out: a file of sound alone cannot begin below 0.
        elif (packet.pts + (packet.duration or 0)) * tick > 0:
            yield packet
