"""The sound of a film, taken over into another one."""

import io
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import OutputContainer

from kinoform.media.caps import MOST_DECODING
from kinoform.media.child import GRACE
from kinoform.media.codecs import VIDEO
from kinoform.media.found import PathLike, found

MOST_SOUND = 2**28
"""Bytes of sound that are taken: ten minutes at 3.5 megabits per second."""

START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from kinoform.media.listening import main; main()"
"""What the process that reads the file runs, as in `media.child`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """A file of sound alone, of the kind that it is to be mixed into; heard from `start` seconds of the film on."""

    data: bytes
    suffix: str
    start: float = 0.0


def read_sound(path: PathLike, *, suffix: str, seconds: float) -> Sound | None:
    """The first `seconds` of a film's sound, for a film with this extension; None where there is none to be had.

    Its packets are copied; where that kind of file takes no such codec they are coded anew. Warns of that, and of
    sound that has to be left out. The file is read in a process of its own, as its pictures are. Raises UsageError
    when it is missing.
    """
    files = found(path)
    if len(files.paths) != 1:
        return None
    notes, data = _taken({"path": str(files.paths[0]), "suffix": suffix.lower(), "seconds": seconds})
    for note in notes:
        warnings.warn(f"{files.name} {note}", stacklevel=2)
    return Sound(data=data, suffix=suffix.lower()) if data else None


@contextmanager
def mixed(container: OutputContainer, sound: Sound | None) -> Iterator[Callable[[float], None]]:
    """Add a stream of the sound; what is yielded writes all of it that begins before a time in seconds."""
    if sound is None:
        yield lambda time: None
        return
    with av.open(io.BytesIO(sound.data), "r", format=VIDEO[sound.suffix].demuxer) as source:
        stream = source.streams.audio[0]
        target = container.add_stream_from_template(stream)
        tick = stream.time_base or Fraction(1)
        shift = round(sound.start / tick)
        packets = (each for each in source.demux(stream) if each.pts is not None and each.dts is not None)
        waiting = next(packets, None)

        def until(time: float) -> None:
            nonlocal waiting
            while waiting is not None and (waiting.pts + shift) * tick < time:
                waiting.pts, waiting.dts = waiting.pts + shift, waiting.dts + shift
                waiting.stream = target
                container.mux(waiting)
                waiting = next(packets, None)

        yield until


def _taken(job: Mapping[str, object]) -> tuple[list[str], bytes]:
    """What there is to say of the file, each the rest of a sentence, and a file of sound, empty where there is none."""
    modules = json.dumps([place for place in sys.path if place])
    lost = ["loses its sound, which cannot be read; convert the film to mp4 with sound in aac"]
    try:
        ran = subprocess.run(
            [sys.executable, "-I", "-c", START, modules], input=json.dumps(job).encode(),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=MOST_DECODING + GRACE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return lost, b""
    line, _, data = ran.stdout.partition(b"\n")
    try:
        notes = json.loads(line)
    except (ValueError, RecursionError):
        return lost, b""
    if ran.returncode or not isinstance(notes, list) or len(data) > MOST_SOUND:
        return lost, b""
    return [str(note) for note in notes], data
