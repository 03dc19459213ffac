"""The process that decodes many files in turn: each in a fork of its own, which ends with its file.

This process loads the libraries once and reads no file itself, so whatever a file does, the next one meets a process
that none has touched. Jobs come over a socket: four bytes of length with a descriptor to answer to, then JSON; when
the fork has ended, four bytes of its exit code go back, below 0 for a signal.
"""

import os
import signal
import socket
import sys
from contextlib import suppress

from PIL import Image

import kinoform.media.video_decoder  # noqa: F401 - loaded once for all files
from kinoform.media.decoder_process import Job, answer

WORD = 4
"""Bytes of a length, and of an exit code."""

CRASHED = 1
"""The exit code of a fork that ended otherwise than it should."""


def main() -> None:
    """Do jobs until the other end of the socket, which is standard input, is closed."""
    control, seconds = socket.socket(fileno=os.dup(0)), float(sys.argv[2])
    os.close(0)
    Image.preinit()
    while True:
        head, descriptors, _, _ = socket.recv_fds(control, WORD, 1)
        if len(head) < WORD or not descriptors:
            return
        job = Job.read(_exactly(control, int.from_bytes(head, "big")))
        child = os.fork()
        if child == 0:
            _child(job, control, descriptors[0])
        os.close(descriptors[0])
        control.sendall(_ended(child, seconds).to_bytes(WORD, "big", signed=True))


def _child(job: Job, control: socket.socket, descriptor: int) -> None:
    """Answer a job, and end this process."""
    code = CRASHED
    try:
        control.close()
        with os.fdopen(descriptor, "wb") as out:
            answer(job, out)
        code = 0
    finally:
        os._exit(code)


def _ended(child: int, seconds: float) -> int:
    """Wait for a process, at most so many seconds; return its exit code."""

    def stop(number: int, frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _exactly(control: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = control.recv(size - len(data))
        if not part:
            raise SystemExit
        data += part
    return bytes(data)
