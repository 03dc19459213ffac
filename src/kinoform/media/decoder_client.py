"""Decoding in a process of its own, so that a hostile file can neither harm this one nor hold it up."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BufferedIOBase, BufferedReader
from math import ceil
from threading import Timer
from typing import Any, Protocol, TypeGuard, TypeVar, runtime_checkable

import numpy as np

from kinoform.errors import KinoformError, UsageError
from kinoform.media import limits
from kinoform.media.decoder_process import Job
from kinoform.media.paths import printable
from kinoform.media.resample import Times, exact_rate
from kinoform.media.upright import Stance

T = TypeVar("T")

LONGEST_LINE = 2**20
"""Bytes of a message that are read: it tells of one file, at most the times of all its frames."""

START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from MODULE import main; main()"

LARGEST_COUNT = 2**31
"""Frames that a header may promise; what is read is limited where it is read."""

GRACE = 10
"""Seconds to start the process, beyond those to decode."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """Frames [f, h, w, c] of uint8, their rate, their own times where they are not even, and warnings.

    Each of the `notes` is the rest of a sentence; `has_audio` tells that the file has other tracks, and `stance`
    how the frames lie in it.
    """

    frames: np.ndarray
    fps: float | None
    times: Times | None
    has_audio: bool
    stance: Stance | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaHeader:
    """Header of a file, as far as it tells of frames: how many there are, and the size of the first as it is shown.

    `seconds` is how long they last, None for images without times, which are written in units of `tick` seconds.
    `counted` tells that the file does not say, and that all frames were decoded to count them.
    """

    num_frames: int
    height: int
    width: int
    seconds: Fraction | None
    tick: Fraction
    counted: bool

    def frames_at(self, fps: float) -> int:
        """Return how many frames `read_clip` gives at a rate, as far as the file says the truth."""
        if self.seconds is None:
            return self.num_frames
        return max(ceil((self.seconds - self.tick / 2) * exact_rate(fps)), 1)


@runtime_checkable
class MediaDecoder(Protocol):
    """Decoder of the files of strangers, in other processes.

    Its methods raise UsageError when a file cannot be read, or takes too much time or memory.
    """

    def decoded(self, job: Job) -> Decoded:
        """Decode the frames of a job."""
        ...

    def header(self, job: Job) -> MediaHeader:
        """Return what the file of a job says of its frames, of which one is decoded, or all to count them."""
        ...


class ProcessEach:
    """`MediaDecoder` with a new process for each job: for few files."""

    def decoded(self, job: Job) -> Decoded:
        return decoded(job)

    def header(self, job: Job) -> MediaHeader:
        return _ran(replace(job, header=True), received_header)


def decoded(job: Job) -> Decoded:
    """Decode the frames of a job. Raises UsageError when a file cannot be read, or takes too much time or memory."""
    return _ran(job, received)


def _ran(job: Job, receive: Callable[[BufferedIOBase], T]) -> T:
    command = isolated("kinoform.media.decoder_process")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        clock = Timer(limits.MAX_DECODING + GRACE, process.kill)
        clock.start()
        assert process.stdin is not None and isinstance(process.stdout, BufferedReader)
        try:
            process.stdin.write(job.written())
            process.stdin.close()
            return receive(process.stdout)
        except (EOFError, BrokenPipeError) as error:
            process.stdout.close()  # ends a process that still writes
            raise failure(process.wait(), job.name) from error
        finally:
            clock.cancel()
            process.kill()


def isolated(module: str) -> list[str]:
    """Return the command that runs a module's `main`, isolated from the current folder, with this process's modules."""
    folders = json.dumps([folder for folder in sys.path if folder])
    return [sys.executable, "-I", "-c", START.replace("MODULE", module), folders]


def received(stream: BufferedIOBase) -> Decoded:
    """Check and join the messages of the process, which a hostile file may have taken over.

    Raises EOFError for other messages or an early end, and UsageError for a fault of the file.
    """
    frames, count = np.empty((0, 0, 0, 0), np.uint8), 0
    while (letter := stream.read(1)) in (b"h", b"f"):
        if letter == b"h":
            frames = np.empty((1, *_shape(_line(stream, list))), np.uint8)
            continue
        if not frames.size or (count + 1) * frames[0].nbytes > limits.MAX_RESULT:
            raise EOFError
        if count == len(frames):
            # In place: the system moves pages instead of copying them.
            frames.resize((2 * count, *frames.shape[1:]), refcheck=False)
        if stream.readinto(frames[count].data) < frames[count].nbytes:
            raise EOFError
        count += 1
    end = _line(stream, dict)
    _check_refusal(letter, end)
    notes, fps = end.get("notes"), end.get("fps")
    if letter != b"e" or not count or not isinstance(notes, list) or not isinstance(fps, float | int | None):
        raise EOFError
    frames.resize((count, *frames.shape[1:]), refcheck=False)
    return Decoded(
        frames=frames, fps=None if fps is None else float(fps), times=_times(end.get("times"), count),
        has_audio=end.get("has_audio") is True, stance=_stance(end.get("stance")),
        notes=tuple(printable(str(item)) for item in notes),
    )  # fmt: skip


def received_header(stream: BufferedIOBase) -> MediaHeader:
    """Check the only message of a job that asks for the header. Raises as `received` does."""
    letter = stream.read(1)
    says = _line(stream, dict)
    _check_refusal(letter, says)
    count, size, seconds = says.get("frames"), says.get("size"), _fraction(says.get("seconds"))
    tick = _fraction(says.get("tick"))
    if letter != b"p" or not _integers([count], 1) or not _integers(size, 2) or tick is None:
        raise EOFError
    if not 0 < count <= LARGEST_COUNT or not 0 < min(size) <= max(size) < 2**16:
        raise EOFError
    return MediaHeader(
        num_frames=count, height=size[0], width=size[1], seconds=seconds, tick=tick,
        counted=says.get("counted") is True,
    )  # fmt: skip


def _check_refusal(letter: bytes, end: dict[str, Any]) -> None:
    if letter == b"x" and isinstance(end.get("error"), str):
        raise UsageError(printable(end["error"]), code=_code(end.get("code")))


def _fraction(listed: object) -> Fraction | None:
    if listed is None:
        return None
    if not _integers(listed, 2) or listed[0] < 0 or listed[1] <= 0 or max(listed) > 2**63:
        raise EOFError
    return Fraction(*listed)


def _times(listed: object, count: int) -> Times | None:
    if listed is None:
        return None
    if not _integers(listed, count + 3):
        raise EOFError
    try:
        return Times(tick=Fraction(*listed[:2]), begins=tuple(listed[2:-1]), end=listed[-1])
    except (ValueError, ZeroDivisionError) as error:
        raise EOFError from error


def _stance(listed: object) -> Stance | None:
    if listed is None:
        return None
    if not _integers(listed, 6) or not all(abs(item) < 2**32 for item in listed):
        raise EOFError
    height, width, a, b, c, d = listed
    return Stance(coded=(height, width), matrix=(a, b, c, d))


def _integers(listed: object, count: int) -> TypeGuard[list[int]]:
    return isinstance(listed, list) and len(listed) == count and all(type(item) is int for item in listed)


def _code(code: object) -> str:
    if not isinstance(code, str) or not re.fullmatch("[a-z][a-z0-9_]{0,39}", code):
        raise EOFError
    return code


def _line(stream: BufferedIOBase, kind: type) -> Any:
    try:
        message = json.loads(stream.readline(LONGEST_LINE))
    except (ValueError, RecursionError) as error:
        raise EOFError from error
    if not isinstance(message, kind):
        raise EOFError
    return message


def _shape(sides: list[Any]) -> list[int]:
    if len(sides) != 3 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise EOFError
    if math.prod(sides) > limits.MAX_RESULT or sides[2] not in (1, 3):
        raise EOFError
    return sides


def failure(code: int, name: str) -> KinoformError:
    """Return the error of a process that ended with a code, below 0 by a signal, before it had decoded a file."""
    if code < 0:  # ended by a signal: from the clock, a limit, or its own crash
        bounds = f"{limits.MAX_DECODING} s and {limits.MAX_MEMORY // 2**30} GiB"
        return UsageError(
            f"{name} cannot be decoded within {bounds}; convert it, or make it shorter or smaller",
            code="media_too_large",
        )
    return KinoformError(
        f"{name}: the process that decodes it ended early ({code}); does {sys.executable} run?", code="decoder_ended"
    )
