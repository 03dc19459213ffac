"""What people read: notes and errors on stderr; results alone on stdout."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys or cannot show: controls, marks that turn the line around, lone surrogates."""


def printable(text: str) -> str:
    """The text with such characters written out, since names and parameters come from files of strangers."""
    return OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def note(text: str) -> None:
    """A line for people."""
    print(printable(text), file=sys.stderr, flush=True)


def fail(text: str, code: int) -> int:
    """One sentence on stderr; the exit code is handed through."""
    note(f"kinoform: {text}")
    return code


def result(text: str, data: Mapping[str, object], *, as_json: bool) -> None:
    """One result: text, or the data as JSON on one line of ASCII, which any terminal and locale can carry."""
    print(json.dumps(data) if as_json else printable(text), file=sys.stdout, flush=True)
