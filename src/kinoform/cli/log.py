"""The log of a run: JSON lines in a file, in which no prompt stands unless it is asked for."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from kinoform.cli.events import Caution, Event, Failure, Step, as_object, line_of
from kinoform.errors import UsageError

PROMPTS = {"prompt", "negative_prompt"}
"""Fields of results that are left out, at any depth."""

FREE = ("message", "result", "options")
"""Fields of events that may hold words of the user."""

SHORTEST = 3
"""Letters of a word that is masked; shorter ones tell nothing."""

PIECE = re.compile(r"[A-Za-z0-9]+|[^\x00-\x7f]")
"""What is masked at once: a plain word, or one character of any other script."""


class Log:
    """Hears events and appends them to a file, one JSON object a line; steps are left out.

    `prompts` says which texts are private. Their words are masked in all messages, names of files and
    results, since warnings quote single words and default names are made of them. With `private` None
    everything is written as it is. Raises UsageError when the file cannot be written at the beginning; a
    disk that fills up later does not end the work.
    """

    def __init__(self, path: Path, private: Callable[[], Iterable[str]] | None) -> None:
        self._path, self._private, self._failed = path, private, False
        try:
            path.open("a").close()
        except OSError as error:
            raise UsageError(
                f"the log {path} cannot be written ({error.strerror}); choose another --log", code="file_not_writable"
            ) from error

    def __call__(self, event: Event) -> None:
        if isinstance(event, Step):
            return
        told = as_object(event)
        if self._private is not None:
            words = _words(self._private())
            told |= {name: _masked(told[name], words) for name in FREE if name in told}
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = line_of({"time": time, "level": _level(event), **told}) + "\n"
        try:
            with self._path.open("a", encoding="ascii") as file:
                file.write(line)
        except OSError as error:
            if not self._failed:
                print(f"warning: the log {self._path} is incomplete: {error.strerror}", file=sys.stderr)
            self._failed = True


def _level(event: Event) -> str:
    return "error" if isinstance(event, Failure) else "warning" if isinstance(event, Caution) else "info"


def _words(texts: Iterable[str]) -> set[str]:
    """The words of texts, and those without accents, which names of files are made of."""
    whole = " ".join(texts)
    plain = unicodedata.normalize("NFKD", whole).encode("ascii", "ignore").decode()
    return {piece.casefold() for piece in PIECE.findall(f"{whole} {plain}")}


def _masked(value: object, words: set[str]) -> object:
    if isinstance(value, str):
        return PIECE.sub(lambda match: "***" if _known(match[0].casefold(), words) else match[0], value)
    if isinstance(value, Mapping):
        return {name: _masked(each, words) for name, each in value.items() if name not in PROMPTS}
    if isinstance(value, list | tuple):
        return [_masked(each, words) for each in value]
    return value


def _known(piece: str, words: set[str]) -> bool:
    if not piece.isascii():
        return piece in words
    # A name of a file may end within a word.
    return len(piece) >= SHORTEST and any(word.startswith(piece) for word in words)
