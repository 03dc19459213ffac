"""Sound of a video, taken over into another one."""

import io
import json
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.stream import Disposition

from kinoform.media.codecs import VIDEO
from kinoform.media.decoder_client import GRACE, isolated
from kinoform.media.limits import MAX_DECODING
from kinoform.media.paths import PathLike, printable
from kinoform.media.types import Sound

MAX_SOUND = 2**28
"""Bytes of sound that are taken: ten minutes at 3.5 megabits per second."""

LOST = "loses its sound, which cannot be read; convert the video to mp4 with sound in aac"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A file of sound alone, of the kind that it is to be mixed into, with the metadata of each track."""

    data: bytes
    tracks: tuple[Mapping[str, object], ...]
    suffix: str
    start: float


def record(path: PathLike, *, seconds: float) -> Sound | None:
    """Copy all sound tracks of a video, as far as they are heard in its first `seconds`; None where it has none.

    Their packets are copied, so that the file is needed no more. Warns of what has to be left out. The file is
    read in a process of its own, as its images are.
    """
    absolute = Path(path).absolute()
    if not absolute.is_file():
        return None
    name = printable(str(path))
    data = _processed({"path": str(absolute), "seconds": seconds}, b"", name)
    return Sound(data=data, name=name) if data else None


def fitted(sound: Sound, suffix: str) -> Fitted | None:
    """Fit the sound to a video with this extension; None where none can be heard in it.

    Tracks that this kind of file does not take are coded anew. Warns of that, and of what has to be left out.
    """
    suffix = suffix.lower()
    if suffix not in VIDEO:
        kind = suffix or "a folder of frames"
        warnings.warn(f"{sound.name} loses its sound, since {kind} has none; take {', '.join(VIDEO)}", stacklevel=3)
        return None
    head, _, data = _processed({"suffix": suffix}, sound.data, sound.name).partition(b"\n")
    return Fitted(data=data, tracks=_tracks(head), suffix=suffix, start=sound.start) if head else None


@contextmanager
def mixed(container: OutputContainer, sound: Fitted | None) -> Iterator[Callable[[float], None]]:
    """Add streams of the sound; what is yielded writes all of it that begins before a time in seconds."""
    if sound is None:
        yield lambda time: None
        return
    with av.open(io.BytesIO(sound.data), "r", format=VIDEO[sound.suffix].demuxer) as source:
        targets = {}
        for stream, about in zip(source.streams.audio, sound.tracks, strict=True):
            target = targets[stream.index] = container.add_stream_from_template(stream)
            target.metadata.update({key: str(about[key]) for key in ("language", "title") if about[key]})
            target.disposition = Disposition.default if about["default"] else Disposition(0)
        packets = (item for item in source.demux() if item.pts is not None and item.dts is not None)
        waiting = next(packets, None)

        def until(time: float) -> None:
            nonlocal waiting
            while waiting is not None:
                tick = waiting.time_base or Fraction(1)
                shift = round(sound.start / tick)
                presented, decoded = (waiting.pts or 0) + shift, (waiting.dts or 0) + shift
                if presented * tick >= time:
                    return
                waiting.pts, waiting.dts = presented, decoded
                waiting.stream = targets[waiting.stream_index]
                container.mux(waiting)
                waiting = next(packets, None)

        yield until


def _tracks(line: bytes) -> tuple[Mapping[str, object], ...]:
    tracks = json.loads(line)
    return tuple({key: item[key] for key in ("language", "title", "default")} for item in tracks)


def _processed(job: Mapping[str, object], data: bytes, name: str) -> bytes:
    """Return the bytes of the other process, empty where there are none; warns of what it says of the file."""
    notes, result = _exchanged(json.dumps(job).encode() + b"\n" + data)
    for note in notes:
        warnings.warn(f"{name} {note}", stacklevel=4)
    return result


def _exchanged(job: bytes) -> tuple[list[str], bytes]:
    try:
        ran = subprocess.run(
            isolated("kinoform.media.audio_process"), input=job,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=MAX_DECODING + GRACE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [LOST], b""
    line, _, data = ran.stdout.partition(b"\n")
    try:
        notes = json.loads(line)
    except (ValueError, RecursionError):
        return [LOST], b""
    if ran.returncode or not isinstance(notes, list) or len(data) > MAX_SOUND:
        return [LOST], b""
    return [printable(str(note)) for note in notes], data
