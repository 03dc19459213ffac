"""One process that decodes many files in turn, for programs that read whole folders of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import BufferedIOBase
from threading import Lock, Timer
from types import TracebackType
from typing import TypeVar

from kinoform.media import limits
from kinoform.media.decoder_client import (
    GRACE,
    Decoded,
    MediaHeader,
    ProcessEach,
    failure,
    isolated,
    received,
    received_header,
)
from kinoform.media.decoder_process import Job

T = TypeVar("T")

WORD = 4
"""Bytes of a length, and of an exit code; as in the process."""

MODULE = "kinoform.media.decoder_server"


class SharedDecoder:
    """`MediaDecoder` that loads its libraries once; a context, at whose end its process ends.

    Every file is decoded in a fork of that process, with the limits of `media.limits`: what a hostile file does ends
    with it, and the next one is decoded as if it were the first. A process that was lost is started anew. Jobs of
    several threads wait for one another. Where processes cannot be forked (Windows) each file has a new one.
    """

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lock = Lock()

    def __enter__(self) -> SharedDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def decoded(self, job: Job) -> Decoded:
        """See `MediaDecoder`."""
        return self._ran(job, received) if hasattr(os, "fork") else ProcessEach().decoded(job)

    def header(self, job: Job) -> MediaHeader:
        """See `MediaDecoder`."""
        if not hasattr(os, "fork"):
            return ProcessEach().header(job)
        return self._ran(replace(job, header=True), received_header)

    def close(self) -> None:
        """End the process; another job starts a new one."""
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)  # its fork too
            self._server.wait()
        self._server = self._control = None

    def _ran(self, job: Job, receive: Callable[[BufferedIOBase], T]) -> T:
        with self._lock:
            control = self._started()
            mine, theirs = socket.socketpair()
            clock = Timer(limits.MAX_DECODING + 2 * GRACE, _shut, (mine, control))
            clock.start()
            try:
                with mine, mine.makefile("rb") as stream:
                    with theirs:
                        _asked(control, job, theirs)
                    result = receive(stream)
            except (EOFError, ConnectionError) as error:
                raise failure(self._code(control), job.name) from error
            except BaseException as error:
                self._settle(control, error)
                raise
            finally:
                clock.cancel()
            self._settle(control, None)
            return result

    def _started(self) -> socket.socket:
        if self._control is not None and self._server is not None and self._server.poll() is None:
            return self._control
        self.close()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [*isolated(MODULE), str(limits.MAX_DECODING + GRACE)], stdin=theirs.fileno(), stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self._control

    def _settle(self, control: socket.socket, error: BaseException | None) -> None:
        """Wait for the fork that has said all, or end it with its server where this process was interrupted."""
        if error is None or isinstance(error, Exception):
            self._code(control)
        else:
            self.close()

    def _code(self, control: socket.socket) -> int:
        """Return the exit code of the fork; that of a process that was killed where the server is gone."""
        control.settimeout(GRACE)  # it has said all, or closed the stream
        with suppress(ConnectionError, TimeoutError):
            word = control.recv(WORD, socket.MSG_WAITALL)
            if len(word) == WORD:
                control.settimeout(None)
                return int.from_bytes(word, "big", signed=True)
        self.close()
        return -signal.SIGKILL


def _asked(control: socket.socket, job: Job, answer_to: socket.socket) -> None:
    text = job.written()
    socket.send_fds(control, [len(text).to_bytes(WORD, "big")], [answer_to.fileno()])
    control.sendall(text)


def _shut(*sockets: socket.socket) -> None:
    """Let whoever waits at these wait no longer."""
    for item in sockets:
        with suppress(OSError):
            item.shutdown(socket.SHUT_RDWR)
