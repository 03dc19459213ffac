"""Warnings and refusals while a file is read: each is the rest of a sentence that begins with the file's name."""

from collections.abc import Callable
from typing import TypeAlias


class UnsupportedFile(Exception):
    """The file is not read: the message says why and what to change; `code` is that of the UsageError to come."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


Warn: TypeAlias = Callable[[str], None]
"""A function that takes what the user should know of a file that is read."""
