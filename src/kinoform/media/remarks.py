"""What there is to say of a file: each remark is the rest of a sentence that begins with its name."""

from collections.abc import Callable
from typing import TypeAlias


class Refused(Exception):
    """A refusal to read a file: why, and what to change; `code` names the fault, as that of a UsageError."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


Say: TypeAlias = Callable[[str], None]
"""Takes what the user should know of a file that is read."""
