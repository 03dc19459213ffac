"""The process that decodes a stranger's files: a job comes in as JSON, frames go out as bytes, and nothing else.

Messages out begin with a letter: `h` JSON of the frames' shape, once; `f` one frame; then `e` JSON of the rate and
of what is to be said, or `x` JSON of what is wrong, a sentence about the file and its code; for a job that asks for the
header alone, `p` JSON of that. JSON ends with its line.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from io import BufferedIOBase, BufferedReader

import numpy as np

from kinoform.errors import UsageError
from kinoform.media.diagnostics import UnsupportedFile, Warn
from kinoform.media.image_decoder import open_image
from kinoform.media.limits import MAX_DECODING, MAX_FRAMES, MAX_MEMORY
from kinoform.media.resample import (
    DecodeOptions,
    FrameSource,
    FrameTimingStats,
    TimedFrame,
    rate,
    resample_frames,
    sides,
    times,
    too_many,
)
from kinoform.media.sniff import FIRST, sniff_format

try:
    import resource
except ImportError:  # Windows; there, only the time limit of the process that waits for this one protects
    resource = None

FINEST = 10**9
"""The finest part of a second in which lengths are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Files to decode: one video or image, or the images of a folder in order.

    `names` is what errors call each, and `name` the whole; `header`: what the file says of its frames is asked for,
    and none of them.
    """

    name: str
    paths: list[str]
    names: list[str]
    options: DecodeOptions = field(default_factory=DecodeOptions)
    header: bool = False

    def written(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def read(text: bytes) -> "Job":
        values = json.loads(text)
        return Job(**{**values, "options": DecodeOptions(**values["options"])})


def main() -> None:
    """Do the job that standard input describes."""
    answer(Job.read(sys.stdin.buffer.read()), os.fdopen(1, "wb"))


def answer(job: Job, out: BufferedIOBase) -> None:
    """Confine this process for good, and write all messages of a job to `out`."""
    confine()
    try:
        decode(job, out)
    except UsageError as error:
        _send(out, b"x", {"error": str(error), "code": error.code})
    out.flush()


def confine() -> None:
    """Limit this process: its memory, its time, and what it writes to disk, not even a dump of the memory."""
    _limit({"RLIMIT_AS": MAX_MEMORY, "RLIMIT_CPU": MAX_DECODING, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0})


def decode(job: Job, out: BufferedIOBase) -> None:
    """Write the messages of a job to `out`, but for `x`, in whose place UsageError is raised."""
    notes: dict[str, None] = {}  # each once, in order
    write = _write_header if job.header else _write
    with _named(job.name):
        if len(job.paths) > 1:
            frames = _images(job, notes.setdefault)
            write(FrameSource(size=(1, 1), frames=frames, count=len(job.paths)), job.options, notes, out)
            return
        with open(job.paths[0], "rb") as file:
            write(_single(file, job.options, notes.setdefault), job.options, notes, out)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Raise whatever goes wrong with a file as a sentence about it."""
    try:
        yield
    except (UsageError, BrokenPipeError):
        raise
    except UnsupportedFile as error:
        raise UsageError(f"{name} {error}", code=error.code) from error
    except MemoryError as error:
        raise UsageError(
            f"{name} needs over {MAX_MEMORY // 2**30} GiB to decode; make it smaller", code="media_too_large"
        ) from error
    except Exception as error:  # libraries raise anything over a damaged file
        raise UsageError(f"{name} is damaged or cut short; copy or export it again", code="media_damaged") from error


def _single(file: BufferedReader, options: DecodeOptions, warn: Warn) -> FrameSource:
    kind, length = sniff_format(file.read(FIRST)), os.fstat(file.fileno()).st_size
    file.seek(0)
    if not kind.demuxer:
        return open_image(file, kind, length, warn)
    if options.single:
        raise UnsupportedFile("is a video, not an image; give a png, jpeg or webp file", code="not_an_image")
    from kinoform.media.video_decoder import open_video  # not for images: FFmpeg takes longer to load than they to read

    return open_video(file, kind, length, warn)


def _images(job: Job, warn: Warn) -> Iterator[TimedFrame]:
    """Yield the first frame of each image of a folder, without times."""
    size = None
    for path, name in zip(job.paths, job.names, strict=True):
        with _named(name), open(path, "rb") as file:
            kind = sniff_format(file.read(FIRST))
            file.seek(0)
            if kind.demuxer:
                raise UnsupportedFile(
                    "is a video; take it out of the folder, or give it alone", code="video_among_images"
                )
            source = open_image(file, kind, os.fstat(file.fileno()).st_size, warn)
            pixels = next(source.frames).pixels()
            size = size or pixels.shape
            if pixels.shape[:2] != size[:2]:
                raise UnsupportedFile(
                    f"is {sides(pixels.shape)}, but {job.names[0]} is {sides(size)}; give frames of one size",
                    code="sizes_differ",
                )
        yield TimedFrame(pixels=lambda here=pixels: here, time=Fraction(0), end=Fraction(0))


def _write(source: FrameSource, options: DecodeOptions, notes: dict[str, None], out: BufferedIOBase) -> None:
    stats, shape, count = FrameTimingStats(), None, 0
    for pixels in resample_frames(source, options, stats, notes.setdefault):
        if shape is None:
            shape = pixels.shape
            _send(out, b"h", shape)
        count += 1
        out.write(b"f")
        out.write(np.ascontiguousarray(pixels).data)
    own = times(source, options, stats, count)
    listed = own and [own.tick.numerator, own.tick.denominator, *own.begins, own.end]
    _send(
        out,
        b"e",
        {
            "fps": rate(source, options, stats),
            "times": listed,
            "has_audio": source.has_audio,
            "stance": stats.stance and [*stats.stance.coded, *stats.stance.matrix],
            "notes": list(notes),
        },
    )


def _write_header(source: FrameSource, options: DecodeOptions, notes: dict[str, None], out: BufferedIOBase) -> None:
    """Write what the source says, with the size of its first frame as it is shown; count frames if it does not say."""
    stats = FrameTimingStats()
    frames = stats.count(source.frames)
    first = next(frames, None)
    if first is None:
        raise UnsupportedFile("has no frame; give another video", code="media_no_video")
    height, width = first.pixels().shape[:2]
    count, seconds, counted = source.count, source.seconds, False
    if source.tick and (count is None or not (source.rate or seconds)):
        for _ in frames:
            if stats.frames > MAX_FRAMES:
                raise too_many(stats.frames)
        count, seconds, counted = stats.frames, stats.end, True
    length = None
    if source.tick:
        length = count / source.rate if source.rate and not counted and count else seconds
    exact = length and length.limit_denominator(FINEST)
    _send(
        out,
        b"p",
        {
            "frames": count or 1,
            "size": [height, width],
            "seconds": exact and [exact.numerator, exact.denominator],
            "tick": [source.tick.numerator, source.tick.denominator],
            "counted": counted,
        },
    )


def _send(out: BufferedIOBase, letter: bytes, message: object) -> None:
    out.write(letter + json.dumps(message).encode() + b"\n")


def _limit(limits: Mapping[str, int]) -> None:
    if resource is None:
        return
    for name, max_ in limits.items():
        with suppress(ValueError, OSError):  # macOS has no limit of memory, and others may have set lower ones
            resource.setrlimit(getattr(resource, name), (max_, max_))
