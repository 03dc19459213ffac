"""Output of commands: results on stdout, notes and errors on stderr, as text for people or as JSON for programs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TypeAlias

from kinoform.cli.events import Caution, Event, Failure, Note, Result, as_object, line_of
from kinoform.errors import KinoformError

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal acts on or cannot show: controls, marks of direction, lone surrogates."""


def printable(text: str) -> str:
    """Escape control characters, since names and parameters come from files of strangers."""
    return OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def people(event: Event) -> None:
    """Print notes, warnings and errors on stderr; `result` prints results, and steps are drawn as bars."""
    if isinstance(event, Note):
        _print(printable(event.message), sys.stderr)
    elif isinstance(event, Caution):
        _print(printable(f"warning: {event.message}"), sys.stderr)
    elif isinstance(event, Failure):
        _print(printable(f"kinoform: {event.message}"), sys.stderr)


def json_results(event: Event) -> None:
    """Print the same lines as JSON, beside `--json`."""
    if isinstance(event, Note | Caution | Failure):
        _print(line_of(as_object(event)), sys.stderr)


def json_stream(event: Event) -> None:
    """Print every event as a line of JSON on stdout: `--json-stream`."""
    _print(line_of(as_object(event)), sys.stdout)


Listener: TypeAlias = Callable[[Event], None]

_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=(people,))
_private: ContextVar[tuple[str, ...]] = ContextVar("private", default=())


def choose(words: Sequence[str]) -> None:
    """Choose the form of the output before the command line is parsed, so that errors in it have that form too."""
    options = words[: words.index("--")] if "--" in words else words
    listener = json_stream if "--json-stream" in options else json_results if "--json" in options else people
    _listeners.set((listener,))


def listen(listener: Listener) -> None:
    """Add a listener for all events from here on."""
    _listeners.set((*_listeners.get(), listener))


def speaks_json() -> bool:
    """Tell whether errors are JSON."""
    return people not in _listeners.get()


def streams() -> bool:
    """Tell whether stdout carries events."""
    return json_stream in _listeners.get()


def emit(event: Event) -> None:
    for listener in _listeners.get():
        listener(event)


def note(text: str) -> None:
    """Print a line for people."""
    emit(Note(message=text))


def warn(text: str) -> None:
    emit(Caution(message=text))


def fail(error: KinoformError) -> int:
    """Print an error as one sentence, and return its exit code."""
    kind = next(item.__name__ for item in type(error).__mro__ if item.__module__ == KinoformError.__module__)
    emit(Failure(kind=kind, code=error.code, message=str(error), exit_code=error.exit_code))
    return error.exit_code


def result(text: str, data: Mapping[str, object], *, as_json: bool) -> None:
    """Print a result: text, or the data as JSON on one line of ASCII, which any terminal and locale can carry."""
    if not streams():
        _print(line_of(data) if as_json else printable(text), sys.stdout)
    emit(Result(result=data))


def keep_private(*texts: str | None) -> None:
    """Keep the words of these texts out of the log."""
    _private.set((*_private.get(), *filter(None, texts)))


def private() -> tuple[str, ...]:
    return _private.get()


def _print(line: str, file: object) -> None:
    try:
        print(line, file=file, flush=True)  # type: ignore[arg-type]
    except (OSError, ValueError):
        if file is not sys.stderr:
            raise
        # Nobody listens, but the work goes on.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
